//! Where the count of a host cluster is kept: which table entry, which slot of its block.

use qcow2_format::{Geometry, HostCluster};

/// Place of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index into the refcount table.
    pub table_index: u64,
    /// Index of the count inside the block.
    pub slot: usize,
}

impl Position {
    /// Finds the place of `cluster`'s count.
    #[must_use]
    pub fn of(geometry: Geometry, cluster: HostCluster) -> Self {
        let per_block = geometry.refcounts_per_block();
        let shift = per_block.trailing_zeros();
        let slot = cluster.get() & per_block.saturating_sub(1);
        // At most 2^24 counts per block (2 MiB of 1-bit counts): fits every usize.
        Self { table_index: cluster.get() >> shift, slot: usize::try_from(slot).unwrap_or(0) }
    }

    /// First cluster that the block behind `table_index` counts.
    #[must_use]
    pub fn first_cluster(geometry: Geometry, table_index: u64) -> HostCluster {
        HostCluster::new(table_index.saturating_mul(geometry.refcounts_per_block()))
    }
}
