//! The end of the counted clusters: where the last one in use lies, and which blocks behind it
//! count nothing any more.

use qcow2_format::{HostCluster, HostOffset, RefcountTableEntry};

use super::{Ledger, Need};
use crate::growth::TableGrowth;
use crate::position::Position;

/// The last refcount block below some index of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBlock {
    /// Index of its table entry.
    pub table_index: u64,
    /// Where it lies.
    pub offset: HostOffset,
    /// Whether it counts nothing, itself apart: the image does without it.
    pub is_empty: bool,
    /// The cluster behind the last one of its range that is in use.
    pub end: HostCluster,
}

impl Ledger {
    /// The last block whose table index is below `below`; `None` when there is none.
    ///
    /// # Errors
    /// [`Need::Load`] when the block is not in memory, [`Need::Fail`] when its place is broken.
    pub fn last_block(&self, below: u64) -> Result<Option<LastBlock>, Need> {
        let below = usize::try_from(below).unwrap_or(usize::MAX).min(self.table.len());
        let entries = self.table.iter().take(below).enumerate().rev();
        let mut present = entries.filter_map(|(index, entry)| Some((index, entry.block_offset()?)));
        let Some((index, offset)) = present.next() else { return Ok(None) };
        let table_index = u64::try_from(index).unwrap_or(u64::MAX);
        self.require(table_index)?;
        let first = Position::first_cluster(self.geometry, table_index).get();
        let Some(block) = self.blocks.get(&table_index) else { return Ok(None) };
        let own = Position::of(self.geometry, self.geometry.host_cluster(offset));
        let own = (own.table_index == table_index).then_some(own.slot);
        let used = |slot: &usize| block.counts.get(*slot) != 0;
        let counts_itself = |slot: &usize| Some(*slot) == own && block.counts.get(*slot) == 1;
        let mut slots = (0..block.counts.count()).rev().filter(used);
        let is_empty = slots.clone().all(|slot| counts_itself(&slot));
        let end = slots.next().map_or(first, |slot| {
            let skip = u64::try_from(slot).unwrap_or(u64::MAX);
            first.saturating_add(skip).saturating_add(1)
        });
        Ok(Some(LastBlock { table_index, offset, is_empty, end: HostCluster::new(end) }))
    }

    /// Forgets an empty block: the table on disk no longer points at it, its whole range is free.
    /// Returns the cluster of the block where another one counts it, which must be counted down.
    pub fn forget_block(&mut self, block: &LastBlock) -> Option<HostCluster> {
        let index = usize::try_from(block.table_index).unwrap_or(usize::MAX);
        if let Some(entry) = self.table.get_mut(index) {
            *entry = RefcountTableEntry::ABSENT;
        }
        self.blocks.remove(&block.table_index);
        self.count_held();
        let first = Position::first_cluster(self.geometry, block.table_index).get();
        self.cursor = self.cursor.min(first.max(1));
        self.search = None;
        let cluster = self.geometry.host_cluster(block.offset);
        let elsewhere = Position::of(self.geometry, cluster).table_index != block.table_index;
        elsewhere.then_some(cluster)
    }

    /// Notes that the file now ends at `file_bytes`: no cluster behind that is in use, and all of
    /// them read as zeros.
    pub fn file_ends_at(&mut self, file_bytes: u64) {
        self.fresh = self.geometry.clusters_for(file_bytes);
        self.search = None;
    }

    /// Plans a growth of the table that hands out `clusters` neighbours, however many.
    ///
    /// # Errors
    /// The table would become too large.
    pub fn plan_area(&self, clusters: u64) -> Result<TableGrowth, Need> {
        let old_table = self.geometry.host_cluster(self.table_offset);
        let entries = u64::try_from(self.table.len()).unwrap_or(u64::MAX);
        let fresh = Position::of(self.geometry, HostCluster::new(self.fresh)).table_index;
        let growth = TableGrowth::plan_with_extra(
            self.geometry,
            old_table,
            entries,
            entries.max(fresh.saturating_add(1)),
            clusters,
        )?;
        Ok(growth)
    }
}
