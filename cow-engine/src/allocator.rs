//! The allocator: the refcount ledger with the I/O it asks for, and the clusters waiting to be
//! counted down.
//!
//! Lock order: an in-flight range, then an L1 maker lock, then this one; the flush lock is never
//! taken while this one is held. The lock is held for memory work, for reading a refcount block
//! that is missing, and for the rare growth of the refcount table.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_io::{Storage, StorageExt};
use qcow2_format::{
    CompressedDescriptor, FieldUpdate, Geometry, HostCluster, HostOffset, RefcountBlock,
    RefcountTableEntry, TablePointer,
};
use refcount::{BlockWrite, HostRun, Ledger, Need, Reserve, TableGrowth};

use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::MetadataMap;

/// Refcount blocks kept in memory, in bytes.
const BLOCK_CACHE_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Allocator {
    geometry: Geometry,
    storage: Arc<dyn Storage>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    /// Clusters whose entry no longer points there in memory: counted down once the disk agrees.
    unpublished: Vec<HostRun>,
    /// Where the next compressed blob may start: behind the last one, in a cluster that it (or
    /// one before it) still counts for.
    packing: Option<HostOffset>,
}

/// Clusters handed out, not yet published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) run: HostRun,
    /// All of the run lies beyond everything that was ever written: it reads as zeros.
    pub(crate) fresh: bool,
}

impl Allocator {
    pub(crate) fn new(storage: Arc<dyn Storage>, geometry: Geometry, ledger: Ledger) -> Self {
        let books = Mutex::new(Books { ledger, unpublished: Vec::new(), packing: None });
        Self { geometry, storage, books }
    }

    /// Hands out up to `wanted` neighbouring clusters for guest data, at least one.
    pub(crate) fn reserve(&self, map: &MetadataMap, wanted: u64) -> Result<Reservation> {
        self.reserve_run(map, wanted, Reserve::UpTo)
    }

    /// Hands out one cluster for a table.
    pub(crate) fn reserve_table(&self, map: &MetadataMap, area: Area) -> Result<HostOffset> {
        let reservation = self.reserve_run(map, 1, Reserve::Exactly)?;
        let offset = self.offset(reservation.run.first)?;
        map.claim(area, offset, self.geometry.cluster_bytes())?;
        Ok(offset)
    }

    fn reserve_run(&self, map: &MetadataMap, wanted: u64, how: Reserve) -> Result<Reservation> {
        self.reserve_in(map, &mut self.lock(), wanted, how)
    }

    /// Hands out `len` bytes, less than a cluster, for a compressed blob: behind the last one if
    /// there is room, else at (or running on into) a new cluster. Every cluster touched counts
    /// one more.
    pub(crate) fn reserve_bytes(&self, map: &MetadataMap, len: u64) -> Result<HostOffset> {
        let mut books = self.lock();
        let cluster_bytes = self.geometry.cluster_bytes();
        let open = self.open_cluster(map, &mut books)?;
        let start = match open {
            Some((next, room)) if len <= room => {
                self.count_up_in(map, &mut books, self.geometry.host_cluster(next))?;
                next
            }
            _ => {
                let new = self.reserve_in(map, &mut books, 1, Reserve::Exactly)?.run.first;
                let new = self.offset(new)?;
                match open {
                    Some((next, room)) if next.checked_add(room) == Some(new) => {
                        self.count_up_in(map, &mut books, self.geometry.host_cluster(next))?;
                        next
                    }
                    _ => new,
                }
            }
        };
        let end = start.checked_add(len);
        books.packing = end.filter(|end| !end.get().is_multiple_of(cluster_bytes));
        Ok(start)
    }

    /// Where packing may go on, and how much room is left there; `None` when the cluster's count
    /// cannot rise any further.
    fn open_cluster(
        &self,
        map: &MetadataMap,
        books: &mut Books,
    ) -> Result<Option<(HostOffset, u64)>> {
        let Some(next) = books.packing else { return Ok(None) };
        let cluster = self.geometry.host_cluster(next);
        let count = self.count_in(map, books, cluster)?;
        if count >= self.geometry.refcount_order().max_count() {
            return Ok(None);
        }
        let used = self.geometry.offset_in_cluster(next.get());
        Ok(Some((next, self.geometry.cluster_bytes().saturating_sub(used))))
    }

    fn reserve_in(
        &self,
        map: &MetadataMap,
        books: &mut Books,
        wanted: u64,
        how: Reserve,
    ) -> Result<Reservation> {
        let fresh_from = books.ledger.fresh_from();
        let run = loop {
            match books.ledger.reserve(wanted, how) {
                Ok(run) => break run,
                Err(need) => self.satisfy(map, books, need)?,
            }
        };
        let blocks = books.ledger.take_added();
        self.claim_blocks(map, &blocks)?;
        let offset = self.offset(run.first)?;
        // Counts that call a table free would have data written over it.
        map.guard_data(offset, run.count.saturating_mul(self.geometry.cluster_bytes()))?;
        Ok(Reservation { run, fresh: run.first >= fresh_from })
    }

    /// Takes back clusters that were handed out and never published.
    pub(crate) fn release(&self, map: &MetadataMap, run: HostRun) -> Result<()> {
        let mut books = self.lock();
        self.count_down_in(map, &mut books, run)
    }

    /// Notes clusters whose entry was just unpublished in memory.
    pub(crate) fn unpublish(&self, runs: impl Iterator<Item = HostRun>) {
        self.lock().unpublished.extend(runs);
    }

    /// The host clusters that a compressed cluster touches.
    pub(crate) fn compressed_run(&self, descriptor: CompressedDescriptor) -> HostRun {
        self.byte_run(descriptor.host_offset(), descriptor.readable_bytes())
    }

    /// The host clusters that `len` bytes from `host` on touch.
    pub(crate) fn byte_run(&self, host: HostOffset, len: u64) -> HostRun {
        let first = self.geometry.host_cluster(host);
        let last = HostOffset::new(host.get().saturating_add(len.saturating_sub(1)));
        let last = self.geometry.host_cluster(last);
        HostRun { first, count: last.get().saturating_sub(first.get()).saturating_add(1) }
    }

    /// Clusters unpublished so far. Their slices must be collected for writing after this call.
    pub(crate) fn take_unpublished(&self) -> Vec<HostRun> {
        std::mem::take(&mut self.lock().unpublished)
    }

    /// Counts clusters down: nothing on disk points there any more and nobody uses them.
    pub(crate) fn count_down(&self, map: &MetadataMap, runs: &[HostRun]) -> Result<()> {
        let mut books = self.lock();
        for &run in runs {
            self.count_down_in(map, &mut books, run)?;
        }
        Ok(())
    }

    /// Copies of changed refcount blocks; they then count as clean.
    pub(crate) fn take_dirty_blocks(&self) -> Vec<BlockWrite> {
        self.lock().ledger.take_dirty()
    }

    /// Places and values of refcount table entries the disk lacks; call after the blocks of
    /// [`take_dirty_blocks`](Self::take_dirty_blocks) were taken.
    pub(crate) fn take_hooks(&self) -> Vec<(HostOffset, RefcountTableEntry)> {
        let mut books = self.lock();
        let table = books.ledger.table_offset();
        let hooks = books.ledger.take_hooks();
        let place = |(index, entry): (u64, _)| {
            index.checked_mul(8).and_then(|skip| table.checked_add(skip)).map(|at| (at, entry))
        };
        hooks.into_iter().filter_map(place).collect()
    }

    /// Whether so many clusters wait to be counted down that a flush is due.
    pub(crate) fn wants_flush(&self) -> bool {
        self.lock().unpublished.len() >= 4096
    }

    /// The count of a cluster.
    pub(crate) fn count(&self, map: &MetadataMap, cluster: HostCluster) -> Result<u64> {
        self.count_in(map, &mut self.lock(), cluster)
    }

    fn count_in(&self, map: &MetadataMap, books: &mut Books, cluster: HostCluster) -> Result<u64> {
        loop {
            match books.ledger.count(cluster) {
                Ok(count) => return Ok(count),
                Err(need) => self.satisfy(map, books, need)?,
            }
        }
    }

    fn count_up_in(
        &self,
        map: &MetadataMap,
        books: &mut Books,
        cluster: HostCluster,
    ) -> Result<()> {
        loop {
            match books.ledger.increment(cluster) {
                Ok(_) => return Ok(()),
                Err(need) => self.satisfy(map, books, need)?,
            }
        }
    }

    fn count_down_in(&self, map: &MetadataMap, books: &mut Books, run: HostRun) -> Result<()> {
        for cluster in run.clusters() {
            loop {
                match books.ledger.decrement(cluster) {
                    Ok(count) => {
                        self.stop_packing_into(books, cluster, count);
                        break;
                    }
                    Err(need) => self.satisfy(map, books, need)?,
                }
            }
        }
        Ok(())
    }

    /// The packing cursor must not outlive the last reference to its cluster: the cluster may be
    /// handed out for something else.
    fn stop_packing_into(&self, books: &mut Books, cluster: HostCluster, count: u64) {
        let packing = books.packing.map(|next| self.geometry.host_cluster(next));
        if count == 0 && packing == Some(cluster) {
            books.packing = None;
        }
    }

    fn satisfy(&self, map: &MetadataMap, books: &mut Books, need: Need) -> Result<()> {
        match need {
            Need::Load { table_index, block } => self.load_block(books, table_index, block),
            Need::Grow(growth) => self.grow(map, books, growth),
            Need::Fail(error) => Err(error.into()),
        }
    }

    fn load_block(&self, books: &mut Books, table_index: u64, block: HostOffset) -> Result<()> {
        let keep = (BLOCK_CACHE_BYTES / self.geometry.cluster_bytes()).max(4);
        books.ledger.evict(usize::try_from(keep).unwrap_or(usize::MAX));
        let mut bytes = vec![0; usize::try_from(self.geometry.cluster_bytes()).unwrap_or(0)];
        self.storage
            .read_zero_filled(block.get(), &mut bytes)
            .map_err(Error::storage(Purpose::RefcountBlock))?;
        let order = self.geometry.refcount_order();
        books.ledger.insert(table_index, RefcountBlock::from_bytes(order, bytes));
        Ok(())
    }

    /// Grows the refcount table, in the order that [`TableGrowth`] prints.
    fn grow(&self, map: &MetadataMap, books: &mut Books, growth: TableGrowth) -> Result<()> {
        books.ledger.grown(&growth).map_err(|need| match need {
            Need::Fail(error) => Error::Refcount(error),
            _ => Error::Plan { reason: "growth of the refcount table needs no block" },
        })?;
        let blocks = books.ledger.take_added();
        self.claim_blocks(map, &blocks)?;
        let table = books.ledger.table_offset();
        let bytes: Vec<u8> =
            books.ledger.table().iter().flat_map(|entry| entry.bits().to_be_bytes()).collect();
        map.claim(Area::RefcountTable, table, bytes.len() as u64)?;
        for block in books.ledger.take_dirty() {
            self.write(Purpose::RefcountBlock, block.offset, &block.bytes)?;
        }
        books.ledger.take_hooks();
        self.write(Purpose::RefcountTable, table, &bytes)?;
        self.storage.sync().map_err(Error::storage(Purpose::Sync))?;
        let clusters = u32::try_from(growth.table_clusters)
            .map_err(|_| Error::Plan { reason: "refcount table too large for the header" })?;
        let update = FieldUpdate::refcount_table(TablePointer { offset: table, count: clusters });
        self.write(Purpose::Header, HostOffset::new(update.offset()), update.bytes())?;
        self.storage.sync().map_err(Error::storage(Purpose::Sync))?;
        map.release(growth.old_table, growth.old_table_clusters);
        // Not counted down at once: a flush under way on another thread may still write an
        // entry of the old table.
        let old = HostRun { first: growth.old_table, count: growth.old_table_clusters };
        books.unpublished.push(old);
        Ok(())
    }

    fn claim_blocks(&self, map: &MetadataMap, blocks: &[HostOffset]) -> Result<()> {
        for &block in blocks {
            map.claim(Area::RefcountBlock, block, self.geometry.cluster_bytes())?;
        }
        Ok(())
    }

    fn write(&self, during: Purpose, at: HostOffset, bytes: &[u8]) -> Result<()> {
        self.storage.write_at(at.get(), bytes).map_err(Error::storage(during))
    }

    fn offset(&self, cluster: HostCluster) -> Result<HostOffset> {
        self.geometry
            .host_offset(cluster)
            .ok_or_else(|| refcount::Error::BeyondLimit { cluster }.into())
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // A panic while the books were open may have left them half-changed, but only towards
        // counts that are too high; every use of them is fallible anyway.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
