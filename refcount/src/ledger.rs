//! The ledger: the counts of one image as far as they are in memory, and the search for free runs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use qcow2_format::{Geometry, HostCluster, HostOffset, RefcountBlock, RefcountTableEntry, limit};

use crate::error::Error;
use crate::growth::TableGrowth;
use crate::position::Position;

mod tail;
mod write_back;

pub use tail::LastBlock;
pub use write_back::BlockWrite;

/// Neighbouring host clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRun {
    /// First cluster.
    pub first: HostCluster,
    /// Number of clusters, never 0.
    pub count: u64,
}

/// How many clusters a reservation must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// The first free run, cut at the wanted count and where a block is not in memory; at least
    /// one cluster.
    UpTo,
    /// The first free run that holds all of them.
    Exactly,
}

/// What the ledger cannot do from memory. The caller does it and asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Read this refcount block and [`insert`](Ledger::insert) it.
    Load {
        /// Index of its table entry.
        table_index: u64,
        /// Where it lies.
        block: HostOffset,
    },
    /// Carry out this growth of the table, then [`grown`](Ledger::grown).
    Grow(TableGrowth),
    /// Stop: the counts do not allow it.
    Fail(Error),
}

impl From<Error> for Need {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

/// The refcount table and the blocks that are in memory.
#[derive(Debug)]
pub struct Ledger {
    geometry: Geometry,
    table_offset: HostOffset,
    table: Vec<RefcountTableEntry>,
    blocks: BTreeMap<u64, Block>,
    /// No cluster below this one is free.
    cursor: u64,
    /// Clusters from here on were never in use: they lie beyond the end of the file.
    fresh: u64,
    /// Blocks made since the caller last asked.
    added: Vec<HostOffset>,
    /// Where a search for neighbours goes on when the block that it asked for is there, and for how
    /// many it looks.
    search: Option<(u64, u64)>,
    /// Grows with every block that comes into memory.
    clock: u64,
    /// Blocks that the disk does not have.
    held: usize,
}

#[derive(Debug)]
struct Block {
    counts: RefcountBlock,
    /// In memory it differs from disk.
    dirty: bool,
    /// A copy of it is on its way to the disk.
    leaving: bool,
    /// The table on disk points at it.
    hooked: bool,
    /// When it came into memory.
    came: u64,
}

impl Ledger {
    /// Starts with a table as read from disk and no blocks. `file_bytes` is the length of the
    /// image file: clusters beyond it were never in use.
    #[must_use]
    pub fn new(
        geometry: Geometry,
        table_offset: HostOffset,
        table: Vec<RefcountTableEntry>,
        file_bytes: u64,
    ) -> Self {
        let fresh = geometry.clusters_for(file_bytes);
        let (blocks, added) = (BTreeMap::new(), Vec::new());
        Self {
            geometry,
            table_offset,
            table,
            blocks,
            cursor: 1,
            fresh,
            added,
            search: None,
            clock: 0,
            held: 0,
        }
    }

    /// Where the refcount table lies.
    #[must_use]
    pub const fn table_offset(&self) -> HostOffset {
        self.table_offset
    }

    /// The refcount table.
    #[must_use]
    pub fn table(&self) -> &[RefcountTableEntry] {
        &self.table
    }

    /// Blocks in memory.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks among them that must stay: the disk does not have them as they are.
    #[must_use]
    pub const fn held_count(&self) -> usize {
        self.held
    }

    /// First cluster that was never in use: beyond the file and never handed out.
    #[must_use]
    pub const fn fresh_from(&self) -> HostCluster {
        HostCluster::new(self.fresh)
    }

    /// Where blocks were made since the last call, so that the caller can protect them.
    pub fn take_added(&mut self) -> Vec<HostOffset> {
        core::mem::take(&mut self.added)
    }

    /// Takes a block that [`Need::Load`] asked for. A block that is already here is kept.
    pub fn insert(&mut self, table_index: u64, counts: RefcountBlock) {
        let block = self.new_block(counts, false);
        self.blocks.entry(table_index).or_insert(block);
    }

    /// A block as it stands on disk, or one that the disk knows nothing of.
    fn new_block(&mut self, counts: RefcountBlock, is_new: bool) -> Block {
        self.clock = self.clock.wrapping_add(1);
        self.held = self.held.saturating_add(usize::from(is_new));
        Block { counts, dirty: is_new, leaving: false, hooked: !is_new, came: self.clock }
    }

    /// The count of a cluster.
    ///
    /// # Errors
    /// [`Need::Load`] when the block is not in memory, [`Need::Fail`] when its place is broken.
    pub fn count(&self, cluster: HostCluster) -> Result<u64, Need> {
        let position = Position::of(self.geometry, cluster);
        if let Some(block) = self.blocks.get(&position.table_index) {
            return Ok(block.counts.get(position.slot));
        }
        self.require(position.table_index)?;
        Ok(0)
    }

    /// The counts behind a table entry, if they are in memory: for callers who look at many of
    /// them.
    #[must_use]
    pub fn block(&self, table_index: u64) -> Option<&RefcountBlock> {
        self.blocks.get(&table_index).map(|block| &block.counts)
    }

    /// Hands out free clusters: their counts become 1.
    ///
    /// # Errors
    /// A [`Need`]; counts of clusters are unchanged then.
    pub fn reserve(&mut self, wanted: u64, how: Reserve) -> Result<HostRun, Need> {
        let wanted = wanted.max(1);
        let run = self.find(wanted, how)?;
        self.take(run)?;
        let end = run.first.get().saturating_add(run.count);
        if self.cursor == run.first.get() {
            self.cursor = end;
        }
        self.fresh = self.fresh.max(end);
        Ok(run)
    }

    /// Adds one reference to a cluster that is in use or being taken into use.
    ///
    /// # Errors
    /// A [`Need`]; [`Error::Overflow`] when the width is exhausted.
    pub fn increment(&mut self, cluster: HostCluster) -> Result<u64, Need> {
        let count = self.count(cluster)?;
        let max = self.geometry.refcount_order().max_count();
        if count >= max {
            return Err(Error::Overflow { cluster, max }.into());
        }
        let count = count.saturating_add(1);
        self.store(cluster, count)?;
        Ok(count)
    }

    /// Drops one reference. RC-1: the caller has made sure that nothing on disk points here any
    /// more (or never did). At 0 the cluster may be handed out again at once.
    ///
    /// # Errors
    /// A [`Need`]; [`Error::Underflow`] when the count is already 0.
    pub fn decrement(&mut self, cluster: HostCluster) -> Result<u64, Need> {
        let count = self.count(cluster)?;
        let Some(count) = count.checked_sub(1) else {
            return Err(Error::Underflow { cluster }.into());
        };
        self.store(cluster, count)?;
        if count == 0 && cluster.get() != 0 {
            self.search = None;
            self.cursor = self.cursor.min(cluster.get());
        }
        Ok(count)
    }

    /// Whether the block behind a table entry is in memory or absent; names it otherwise.
    fn require(&self, table_index: u64) -> Result<(), Need> {
        if self.blocks.contains_key(&table_index) {
            return Ok(());
        }
        let Some(found) = self.entry(table_index).block_offset() else { return Ok(()) };
        if !self.geometry.is_cluster_aligned(found.get()) {
            return Err(Error::UnalignedBlock { table_index, found }.into());
        }
        Err(Need::Load { table_index, block: found })
    }

    fn entry(&self, table_index: u64) -> RefcountTableEntry {
        let index = usize::try_from(table_index).unwrap_or(usize::MAX);
        self.table.get(index).copied().unwrap_or(RefcountTableEntry::ABSENT)
    }

    /// First run of free clusters from the cursor on, in ranges that have a block. A search that
    /// asks for a block goes on where it was, so that the blocks behind it need not stay.
    fn find(&mut self, wanted: u64, how: Reserve) -> Result<HostRun, Need> {
        let mut next = self.cursor.max(1);
        let search = self.search.take();
        if let Some((sought, reached)) = search.filter(|_| how == Reserve::Exactly)
            && wanted >= sought
        {
            next = next.max(reached);
        }
        let found = self.find_from(&mut next, wanted, how);
        if let Err(Need::Load { .. }) = found {
            self.search = Some((wanted, next));
        }
        found
    }

    /// The same from `next` on, which ends where the search has to go on.
    fn find_from(&mut self, next: &mut u64, wanted: u64, how: Reserve) -> Result<HostRun, Need> {
        loop {
            let first = self.first_free(next)?;
            *next = first;
            let mut run = HostRun { first: HostCluster::new(first), count: 1 };
            let mut end = first.saturating_add(1);
            while run.count < wanted {
                match self.free_from(end, wanted.saturating_sub(run.count)) {
                    Ok(0) => break,
                    Ok(more) => {
                        run.count = run.count.saturating_add(more);
                        end = end.saturating_add(more);
                    }
                    // What was found will do: nothing is read or grown to lengthen it.
                    Err(_) if how == Reserve::UpTo => break,
                    Err(need) => return Err(need),
                }
            }
            if run.count >= wanted || how == Reserve::UpTo {
                return Ok(run);
            }
            *next = end;
        }
    }

    /// First free cluster from `next` on, block by block; `next` is moved behind full ones.
    fn first_free(&mut self, next: &mut u64) -> Result<u64, Need> {
        loop {
            self.check_limit(*next)?;
            let position = Position::of(self.geometry, HostCluster::new(*next));
            self.make_block(position.table_index)?;
            let block = self.blocks.get(&position.table_index);
            let slot = block.and_then(|block| block.counts.first_free(position.slot));
            let base = Position::first_cluster(self.geometry, position.table_index).get();
            let skip = slot.and_then(|slot| u64::try_from(slot).ok());
            let end = base.saturating_add(skip.unwrap_or(self.geometry.refcounts_per_block()));
            if *next == self.cursor {
                // RC-3 holds: the cursor starts at 1 and only moves over used clusters here.
                self.cursor = end;
            }
            if slot.is_some() {
                return Ok(end);
            }
            *next = end;
        }
    }

    /// How many clusters from this one on are free, at most `most` and as far as its block
    /// counts; makes the block first where there is none.
    fn free_from(&mut self, cluster: u64, most: u64) -> Result<u64, Need> {
        self.check_limit(cluster)?;
        let position = Position::of(self.geometry, HostCluster::new(cluster));
        self.make_block(position.table_index)?;
        let Some(block) = self.blocks.get(&position.table_index) else { return Ok(0) };
        let last = cluster.saturating_add(self.geometry.refcounts_per_block());
        // At the very end of what can be addressed: one by one.
        let most = if self.check_limit(last).is_ok() { most } else { 1 };
        let slots = position.slot..block.counts.count();
        let free = slots.take_while(|&slot| block.counts.get(slot) == 0);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(u64::try_from(free.take(most).count()).unwrap_or(0))
    }

    /// Counts the free clusters of a run 1, block by block; all of the blocks are in memory.
    fn take(&mut self, run: HostRun) -> Result<(), Need> {
        let mut next = run.first.get();
        while next < run.end() {
            let cluster = HostCluster::new(next);
            self.store(cluster, 1)?;
            next = next.saturating_add(1);
            let position = Position::of(self.geometry, cluster);
            let Some(block) = self.blocks.get_mut(&position.table_index) else { continue };
            for slot in position.slot.saturating_add(1)..block.counts.count() {
                if next >= run.end() {
                    break;
                }
                // 1 fits every width.
                let _ = block.counts.set(slot, 1);
                next = next.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Makes sure that the block of a range is in memory, adding it where there is none.
    fn make_block(&mut self, table_index: u64) -> Result<(), Need> {
        if self.blocks.contains_key(&table_index) {
            return Ok(());
        }
        self.require(table_index)?;
        self.add_block(table_index)
    }

    /// Adds the block for a range that has none. All clusters of the range are free by
    /// definition, so the block takes the first one and counts itself (RC-4).
    fn add_block(&mut self, table_index: u64) -> Result<(), Need> {
        if table_index == 0 {
            return Err(Error::HeaderFree.into());
        }
        let index = usize::try_from(table_index).unwrap_or(usize::MAX);
        let entries = u64::try_from(self.table.len()).unwrap_or(u64::MAX);
        let Some(entry) = self.table.get_mut(index) else {
            let old_table = self.geometry.host_cluster(self.table_offset);
            let growth = TableGrowth::plan(self.geometry, old_table, entries, table_index)?;
            return Err(Need::Grow(growth));
        };
        let cluster = Position::first_cluster(self.geometry, table_index);
        let Some(offset) = self.geometry.host_offset(cluster) else {
            return Err(Error::BeyondLimit { cluster }.into());
        };
        *entry = RefcountTableEntry::new(offset);
        self.added.push(offset);
        let block = self.new_block(self.self_counting_block(1), true);
        self.blocks.insert(table_index, block);
        self.fresh = self.fresh.max(cluster.get().saturating_add(1));
        Ok(())
    }

    /// A block whose first `used` counts are 1.
    fn self_counting_block(&self, used: u64) -> RefcountBlock {
        let bytes = usize::try_from(self.geometry.cluster_bytes()).unwrap_or(0);
        let mut counts = RefcountBlock::zeroed(self.geometry.refcount_order(), bytes);
        for slot in 0..usize::try_from(used).unwrap_or(usize::MAX).min(counts.count()) {
            // 1 fits every width.
            let _ = counts.set(slot, 1);
        }
        counts
    }

    fn check_limit(&self, cluster: u64) -> Result<(), Error> {
        let cluster = HostCluster::new(cluster);
        match self.geometry.host_offset(cluster) {
            Some(offset) if offset.get() < limit::HOST_OFFSET_MAX => Ok(()),
            _ => Err(Error::BeyondLimit { cluster }),
        }
    }

    /// Stores a count in a block that is in memory, making the block where it is absent.
    fn store(&mut self, cluster: HostCluster, count: u64) -> Result<(), Need> {
        let position = Position::of(self.geometry, cluster);
        self.make_block(position.table_index)?;
        if let Some(block) = self.blocks.get_mut(&position.table_index) {
            block
                .counts
                .set(position.slot, count)
                .map_err(|overflow| Error::Overflow { cluster, max: overflow.max })?;
            self.held = self.held.saturating_add(usize::from(block.is_on_disk()));
            block.dirty = true;
        }
        Ok(())
    }

    /// The growth that [`Need::Grow`] asked for is decided: the new blocks and the new table are
    /// now in memory, to be written by the caller in the order of [`TableGrowth`].
    ///
    /// # Errors
    /// A [`Need`] when an old table cluster's count is not in memory.
    pub fn grown(&mut self, growth: &TableGrowth) -> Result<(), Need> {
        let first_index = Position::of(self.geometry, growth.area).table_index;
        let entries = usize::try_from(growth.table_entries(self.geometry)).unwrap_or(usize::MAX);
        self.table.resize(entries.max(self.table.len()), RefcountTableEntry::ABSENT);
        let per_block = self.geometry.refcounts_per_block();
        let mut used = growth.area_clusters();
        for number in 0..growth.block_count {
            let table_index = first_index.saturating_add(number);
            let cluster = HostCluster::new(growth.area.get().saturating_add(number));
            let Some(offset) = self.geometry.host_offset(cluster) else {
                return Err(Error::BeyondLimit { cluster }.into());
            };
            let index = usize::try_from(table_index).unwrap_or(usize::MAX);
            if let Some(entry) = self.table.get_mut(index) {
                *entry = RefcountTableEntry::new(offset);
                self.added.push(offset);
            }
            let counts = self.self_counting_block(used.min(per_block));
            used = used.saturating_sub(per_block);
            let block = self.new_block(counts, true);
            self.blocks.insert(table_index, block);
        }
        let Some(table_offset) = self.geometry.host_offset(growth.table()) else {
            return Err(Error::BeyondLimit { cluster: growth.table() }.into());
        };
        self.table_offset = table_offset;
        self.fresh = self.fresh.max(growth.area.get().saturating_add(growth.area_clusters()));
        Ok(())
    }
}

impl HostRun {
    /// Number of the cluster right behind the run.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.first.get().saturating_add(self.count)
    }

    /// The clusters of the run.
    pub fn clusters(self) -> impl Iterator<Item = HostCluster> {
        (0..self.count).map(move |number| HostCluster::new(self.first.get().saturating_add(number)))
    }
}
