//! The allocator: the refcount ledger with the I/O it asks for, and the clusters waiting to be
//! counted down.
//!
//! Lock order: an in-flight range, then an L1 maker lock, then the write-back lock, then the books.
//! The books are locked for memory work, for reading a refcount block that is missing, and for the
//! rare growth of the refcount table. The write-back lock is held by a flush and by growth: two
//! writers of refcount blocks at once could leave the older copy of one on disk. A block whose copy
//! is on its way stays in memory until it has arrived.

mod area;
mod growth;
mod held_holes;
mod tail;

use std::sync::{Arc, PoisonError};

use block_io::{Storage, StorageExt};
use qcow2_format::{
    CompressedDescriptor, Geometry, HostCluster, HostOffset, RefcountBlock, RefcountTableEntry,
};
use refcount::{BlockWrite, HostRun, Ledger, Need, Position, Reserve};

use self::held_holes::HeldHoles;
use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::MetadataMap;
use crate::poison::Poison;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Fewest refcount blocks of each sort that stay in memory: a search for neighbours needs two.
const BLOCKS_KEPT_MIN: u64 = 4;

/// Runs of clusters that may wait to be counted down.
const UNPUBLISHED_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Allocator {
    geometry: Geometry,
    storage: Arc<dyn Storage>,
    poison: Arc<Poison>,
    /// Held while copies of refcount blocks are on their way to the disk.
    write_back: Mutex<()>,
    books: Mutex<Books>,
    /// Refcount blocks that stay in memory although the disk has them; and as many that it does not
    /// have make a flush due.
    blocks_kept: usize,
    /// First cluster that was never in use, for those who must not wait for the books.
    fresh_from: AtomicU64,
    held_holes: HeldHoles,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    /// Clusters whose entry no longer points there in memory: counted down once the disk agrees.
    unpublished: Vec<Unpublished>,
    /// Where the next compressed blob may start: behind the last one, in a cluster that it (or
    /// one before it) still counts for.
    packing: Option<HostOffset>,
}

/// Host clusters that lost a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// The clusters.
    pub run: HostRun,
    /// Whether their host space is given back if this was the last reference.
    pub punch: bool,
}

/// Whether a reservation may grow the refcount table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    Allowed,
    Forbidden,
}

/// Clusters handed out, not yet published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) run: HostRun,
    /// All of the run lies beyond everything that was ever written: it reads as zeros.
    pub(crate) fresh: bool,
}

impl Allocator {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        geometry: Geometry,
        ledger: Ledger,
        poison: Arc<Poison>,
        cache_bytes: u64,
    ) -> Self {
        let kept = (cache_bytes / 2 / geometry.cluster_bytes()).max(BLOCKS_KEPT_MIN);
        let blocks_kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let fresh_from = AtomicU64::new(ledger.fresh_from().get());
        let books = Mutex::new(Books { ledger, unpublished: Vec::new(), packing: None });
        let write_back = Mutex::default();
        let held_holes = HeldHoles::default();
        Self { geometry, storage, poison, write_back, books, blocks_kept, fresh_from, held_holes }
    }

    /// Held by whoever writes refcount blocks or the refcount table, from before it takes their
    /// copies until the last one is written.
    pub(crate) fn write_back(&self) -> MutexGuard<'_, ()> {
        self.write_back.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Takes back a cluster that [`reserve_table`](Self::reserve_table) gave and that nothing
    /// points at.
    pub(crate) fn release_table(&self, map: &MetadataMap, table: HostOffset) -> Result<()> {
        let first = self.geometry.host_cluster(table);
        self.release(map, HostRun { first, count: 1 })
    }

    fn reserve_run(&self, map: &MetadataMap, wanted: u64, how: Reserve) -> Result<Reservation> {
        self.growing_if_needed(|books, growth| self.reserve_in(map, books, growth, wanted, how))
    }

    /// Runs `work` on the books; when it answers that the table has to grow, once more with the
    /// write-back lock, which must be taken before the books. `work` has then changed no count.
    fn growing_if_needed<T>(
        &self,
        work: impl Fn(&mut Books, Growth) -> Result<Option<T>>,
    ) -> Result<T> {
        if let Some(done) = work(&mut self.lock(), Growth::Forbidden)? {
            return Ok(done);
        }
        let _write_back = self.write_back();
        work(&mut self.lock(), Growth::Allowed)?
            .ok_or(Error::Plan { reason: "growth of the refcount table was allowed" })
    }

    /// Hands out `len` bytes, less than a cluster, for a compressed blob: behind the last one if
    /// there is room, else at (or running on into) a new cluster. Every cluster touched counts
    /// one more.
    pub(crate) fn reserve_bytes(&self, map: &MetadataMap, len: u64) -> Result<HostOffset> {
        self.growing_if_needed(|books, growth| self.reserve_bytes_in(map, books, growth, len))
    }

    fn reserve_bytes_in(
        &self,
        map: &MetadataMap,
        books: &mut Books,
        growth: Growth,
        len: u64,
    ) -> Result<Option<HostOffset>> {
        let cluster_bytes = self.geometry.cluster_bytes();
        let open = self.open_cluster(books)?;
        let start = match open {
            Some((next, room)) if len <= room => {
                self.count_up_in(books, self.geometry.host_cluster(next))?;
                next
            }
            _ => {
                let Some(new) = self.reserve_in(map, books, growth, 1, Reserve::Exactly)? else {
                    return Ok(None);
                };
                let new = self.offset(new.run.first)?;
                match open {
                    Some((next, room)) if next.checked_add(room) == Some(new) => {
                        self.count_up_in(books, self.geometry.host_cluster(next))?;
                        next
                    }
                    _ => new,
                }
            }
        };
        let end = start.checked_add(len);
        books.packing = end.filter(|end| !end.get().is_multiple_of(cluster_bytes));
        Ok(Some(start))
    }

    /// Where packing may go on, and how much room is left there; `None` when the cluster's count
    /// cannot rise any further.
    fn open_cluster(&self, books: &mut Books) -> Result<Option<(HostOffset, u64)>> {
        let Some(next) = books.packing else { return Ok(None) };
        let cluster = self.geometry.host_cluster(next);
        let count = self.count_in(books, cluster)?;
        if count >= self.geometry.refcount_order().max_count() {
            return Ok(None);
        }
        let used = self.geometry.offset_in_cluster(next.get());
        Ok(Some((next, self.geometry.cluster_bytes().saturating_sub(used))))
    }

    /// `None` when the table has to grow first, which only the holder of the write-back lock may
    /// do.
    fn reserve_in(
        &self,
        map: &MetadataMap,
        books: &mut Books,
        growth: Growth,
        wanted: u64,
        how: Reserve,
    ) -> Result<Option<Reservation>> {
        let fresh_from = books.ledger.fresh_from();
        let run = loop {
            let reserved = books.ledger.reserve(wanted, how);
            self.claim_blocks(map, books)?;
            match reserved {
                Ok(run) => break run,
                Err(Need::Grow(_)) if growth == Growth::Forbidden => return Ok(None),
                Err(Need::Grow(plan)) => self.poison.guard(self.grow(map, books, plan))?,
                Err(need) => self.satisfy(books, need)?,
            }
        };
        let offset = self.offset(run.first)?;
        // Counts that call a table free would have data written over it. Nobody knows what else
        // they are wrong about, so nothing is written any more.
        let bytes = run.count.saturating_mul(self.geometry.cluster_bytes());
        self.poison.guard(map.guard_data(offset, bytes))?;
        self.fresh_from.store(books.ledger.fresh_from().get(), Ordering::Release);
        Ok(Some(Reservation { run, fresh: run.first >= fresh_from }))
    }

    /// Takes back clusters that were handed out and never published. Those whose counts cannot be
    /// read right now are counted down with the next flush.
    pub(crate) fn release(&self, map: &MetadataMap, run: HostRun) -> Result<()> {
        let mut books = self.lock();
        for first in run.clusters() {
            match self.count_down_in(map, &mut books, HostRun { first, count: 1 }) {
                Err(Error::Storage { .. }) => {
                    let count = run.end().saturating_sub(first.get());
                    let rest = HostRun { first, count };
                    map.retire(rest);
                    books.unpublished.push(Unpublished { run: rest, punch: false });
                    return Ok(());
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// First cluster that was never in use: an entry that points there or further points at
    /// nothing. May lag behind for clusters that are being handed out right now.
    pub(crate) fn fresh_from(&self) -> HostCluster {
        HostCluster::new(self.fresh_from.load(Ordering::Acquire))
    }

    /// Notes clusters whose entry was just unpublished in memory. Neighbours become one run.
    pub(crate) fn unpublish(&self, runs: impl Iterator<Item = HostRun>, punch: bool) {
        let mut books = self.lock();
        for run in runs {
            match books.unpublished.last_mut() {
                Some(last) if last.punch == punch && last.run.end() == run.first.get() => {
                    last.run.count = last.run.count.saturating_add(run.count);
                }
                _ => books.unpublished.push(Unpublished { run, punch }),
            }
        }
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
    pub(crate) fn take_unpublished(&self) -> Vec<Unpublished> {
        std::mem::take(&mut self.lock().unpublished)
    }

    /// Counts clusters down: nothing on disk points there any more and nobody uses them. One run by
    /// one: only when the others are gone it shows which reference was the last.
    pub(crate) fn count_down(&self, map: &MetadataMap, unused: Unpublished) -> Result<()> {
        if map.guard_given_up(unused.run)? && unused.punch {
            self.punch(unused.run)?;
        }
        self.count_down_in(map, &mut self.lock(), unused.run)
    }

    /// Gives host space back, as far as the reference that is about to go is the last one. The
    /// clusters are still counted: nobody can be handed one before the hole is punched.
    fn punch(&self, run: HostRun) -> Result<()> {
        let mut last: Option<HostRun> = None;
        for cluster in run.clusters() {
            let mut books = self.lock();
            let is_last = self.count_in(&mut books, cluster)? == 1;
            if is_last {
                // A new blob behind the old ones would be punched away.
                self.stop_packing_into(&mut books, cluster);
            }
            drop(books);
            match &mut last {
                Some(hole) if is_last && hole.end() == cluster.get() => hole.count += 1,
                _ => {
                    self.punch_hole(last.take())?;
                    last = is_last.then_some(HostRun { first: cluster, count: 1 });
                }
            }
        }
        self.punch_hole(last)
    }

    fn punch_hole(&self, hole: Option<HostRun>) -> Result<()> {
        let Some(hole) = hole.filter(|hole| !self.held_holes.keep(*hole)) else { return Ok(()) };
        let len = hole.count.saturating_mul(self.geometry.cluster_bytes());
        // Space that the host does not take back is not worth an error.
        let _ = self.storage.punch_hole(self.offset(hole.first)?.get(), len);
        Ok(())
    }

    /// Copies of changed refcount blocks; they then count as clean.
    pub(crate) fn take_dirty_blocks(&self) -> Vec<BlockWrite> {
        self.lock().ledger.take_dirty()
    }

    /// Places and values of refcount table entries the disk lacks. Call before
    /// [`take_dirty_blocks`](Self::take_dirty_blocks), so that every block that is pointed at is
    /// among those, or was written earlier.
    pub(crate) fn take_hooks(&self) -> Vec<(HostOffset, RefcountTableEntry)> {
        let mut books = self.lock();
        let table = books.ledger.table_offset();
        let hooks = books.ledger.take_hooks();
        let place = |(index, entry): (u64, _)| {
            index.checked_mul(8).and_then(|skip| table.checked_add(skip)).map(|at| (at, entry))
        };
        hooks.into_iter().filter_map(place).collect()
    }

    /// Whether so many clusters or refcount blocks wait for a flush that one is due.
    pub(crate) fn wants_flush(&self) -> bool {
        let books = self.lock();
        books.unpublished.len() >= UNPUBLISHED_MAX || books.ledger.held_count() > self.blocks_kept
    }

    /// Whether refcount blocks that wait to be written take up too much memory.
    pub(crate) fn holds_too_many_blocks(&self) -> bool {
        self.lock().ledger.held_count() > self.blocks_kept
    }

    /// Refcount blocks in memory, and those among them that the disk does not have.
    pub(crate) fn block_counts(&self) -> (usize, usize) {
        let books = self.lock();
        (books.ledger.block_count(), books.ledger.held_count())
    }

    /// The count of a cluster.
    pub(crate) fn count(&self, cluster: HostCluster) -> Result<u64> {
        self.count_in(&mut self.lock(), cluster)
    }

    /// Whether each of the clusters has more than one owner; a cluster whose count cannot be had
    /// counts as shared.
    pub(crate) fn shared(&self, clusters: impl Iterator<Item = HostCluster>) -> Vec<bool> {
        let position = |cluster: &HostCluster| Position::of(self.geometry, *cluster);
        let mut books = self.lock();
        let mut shared = Vec::new();
        let mut clusters = clusters.peekable();
        while let Some(first) = clusters.peek().copied() {
            // Reads the block, if there is one: neighbours, which most of them are, share it.
            let known = self.count_in(&mut books, first).is_ok();
            let index = position(&first).table_index;
            let block = books.ledger.block(index);
            while let Some(cluster) = clusters.next_if(|next| position(next).table_index == index) {
                let count = block.map_or(0, |block| block.get(position(&cluster).slot));
                shared.push(!known || count > 1);
            }
        }
        shared
    }

    fn count_in(&self, books: &mut Books, cluster: HostCluster) -> Result<u64> {
        loop {
            match books.ledger.count(cluster) {
                Ok(count) => return Ok(count),
                Err(need) => self.satisfy(books, need)?,
            }
        }
    }

    fn count_up_in(&self, books: &mut Books, cluster: HostCluster) -> Result<()> {
        loop {
            match books.ledger.increment(cluster) {
                Ok(_) => return Ok(()),
                Err(need) => self.satisfy(books, need)?,
            }
        }
    }

    fn count_down_in(&self, map: &MetadataMap, books: &mut Books, run: HostRun) -> Result<()> {
        for cluster in run.clusters() {
            loop {
                match books.ledger.decrement(cluster) {
                    Ok(0) => {
                        // It may be handed out for anything now.
                        map.release(cluster);
                        self.stop_packing_into(books, cluster);
                        break;
                    }
                    Ok(_) => break,
                    Err(need) => self.satisfy(books, need)?,
                }
            }
        }
        Ok(())
    }

    /// The packing cursor must not outlive the last reference to its cluster: the cluster may be
    /// handed out for something else.
    fn stop_packing_into(&self, books: &mut Books, cluster: HostCluster) {
        if books.packing.map(|next| self.geometry.host_cluster(next)) == Some(cluster) {
            books.packing = None;
        }
    }

    /// Does what the ledger needs; growing the table is up to whoever may reserve.
    fn satisfy(&self, books: &mut Books, need: Need) -> Result<()> {
        match need {
            Need::Load { table_index, block } => {
                self.evict_blocks(books);
                self.load_block(books, table_index, block)
            }
            Need::Grow(_) => Err(Error::Plan { reason: "only a reservation grows the table" }),
            Need::Fail(error) => Err(error.into()),
        }
    }

    fn load_block(&self, books: &mut Books, table_index: u64, block: HostOffset) -> Result<()> {
        let mut bytes = vec![0; usize::try_from(self.geometry.cluster_bytes()).unwrap_or(0)];
        self.storage
            .read_zero_filled(block.get(), &mut bytes)
            .map_err(Error::storage(Purpose::RefcountBlock))?;
        let order = self.geometry.refcount_order();
        books.ledger.insert(table_index, RefcountBlock::from_bytes(order, bytes));
        Ok(())
    }

    /// All copies of blocks that were taken have arrived: forgets those beyond the budget. The caller
    /// holds the write-back lock.
    pub(crate) fn blocks_are_written(&self) {
        let books = &mut *self.lock();
        books.ledger.written();
        self.evict_blocks(books);
    }

    /// Forgets blocks beyond the budget, of those that the disk has.
    fn evict_blocks(&self, books: &mut Books) {
        if self.poison.check().is_err() {
            // What was taken for writing may never have arrived.
            return;
        }
        books.ledger.evict(self.blocks_kept);
    }

    /// Protects the blocks that the ledger has just made. One that lies on other metadata must
    /// never be written: the image is given up.
    fn claim_blocks(&self, map: &MetadataMap, books: &mut Books) -> Result<()> {
        for block in books.ledger.take_added() {
            let claimed = map.claim(Area::RefcountBlock, block, self.geometry.cluster_bytes());
            self.poison.guard(claimed)?;
        }
        Ok(())
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
