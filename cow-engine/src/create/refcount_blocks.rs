//! How many refcount blocks a new image needs, and where they lie: they count themselves.

use std::collections::BTreeMap;

use qcow2_format::{Geometry, limit};

use crate::error::Result;

/// Where the reference implementation puts the L1 table of a new image: behind the header, one
/// cluster of refcount table and one refcount block.
pub(super) const L1_CLUSTER: u64 = 3;

/// Clusters of the refcount table and of the blocks for `others` more clusters, all of them
/// counted: the smallest pair that covers itself too.
///
/// # Errors
/// The table would exceed the limit of the format.
pub(super) fn in_order(geometry: Geometry, others: u64) -> Result<(u64, u64)> {
    let (mut tables, mut blocks) = (1, 1);
    // Each round adds less than the last: a block counts many clusters.
    loop {
        let used = others.saturating_add(tables).saturating_add(blocks);
        let more_blocks = used.div_ceil(geometry.refcounts_per_block()).max(blocks);
        let more_tables = more_blocks.div_ceil(geometry.table_entries_per_cluster()).max(tables);
        let needed_bytes = more_tables.saturating_mul(geometry.cluster_bytes());
        if needed_bytes > limit::REFCOUNT_TABLE_BYTES_MAX {
            let allowed_bytes = limit::REFCOUNT_TABLE_BYTES_MAX;
            return Err(refcount::Error::TableTooLarge { needed_bytes, allowed_bytes }.into());
        }
        if (more_tables, more_blocks) == (tables, blocks) {
            return Ok((tables, blocks));
        }
        (tables, blocks) = (more_tables, more_blocks);
    }
}

/// The places of the refcount blocks around an L1 table of `l1_clusters`, as the reference
/// implementation chooses them; `None` when that would need a larger refcount table than one
/// cluster.
///
/// It reserves the L1 table first and finds while counting it that blocks are missing. Each missing
/// block takes the first free cluster behind the L1 table. That cluster must be counted too: if
/// its own block is missing, that one is made first.
pub(super) fn around_l1(geometry: Geometry, l1_clusters: u64) -> Option<Vec<u64>> {
    let per_block = geometry.refcounts_per_block();
    let l1_end = L1_CLUSTER + l1_clusters;
    let mut free = Free { next: l1_end, taken: BTreeMap::from([(0, L1_CLUSTER - 1)]) };
    for index in 1..l1_end.div_ceil(per_block) {
        while !free.taken.contains_key(&index) {
            let (block, place) = free.first_missing(index, per_block);
            if block >= geometry.table_entries_per_cluster() {
                return None;
            }
            free.take(block, place);
        }
    }
    Some(free.taken.into_values().collect())
}

/// The clusters behind the L1 table, and what they were taken for.
struct Free {
    /// Every cluster from here on is free or in `taken`.
    next: u64,
    /// Clusters by the index of the block they hold.
    taken: BTreeMap<u64, u64>,
}

impl Free {
    /// The block that has to be made before, or as, block `index`; and its cluster.
    fn first_missing(&self, index: u64, per_block: u64) -> (u64, u64) {
        let mut wanted = index;
        let mut places = (self.next..).filter(|place| !self.is_taken(*place));
        loop {
            let place = places.next().unwrap_or(u64::MAX);
            let counted_by = place / per_block;
            if counted_by == wanted || self.taken.contains_key(&counted_by) {
                return (wanted, place);
            }
            wanted = counted_by;
        }
    }

    fn is_taken(&self, place: u64) -> bool {
        // Few are taken ahead of `next`: those that had to be made before their turn.
        self.taken.values().any(|taken| *taken == place)
    }

    fn take(&mut self, block: u64, place: u64) {
        self.taken.insert(block, place);
        while self.is_taken(self.next) {
            self.next += 1;
        }
    }
}
