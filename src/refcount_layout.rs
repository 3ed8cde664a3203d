//! A new refcount structure: where its blocks and its table go, and what they say.

use std::collections::BTreeSet;

use qcow2_format::{
    Geometry, HostCluster, HostOffset, RefcountBlock, RefcountTableEntry, TablePointer, limit,
};
use refcount::Census;

/// A table larger than any image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableTooLarge {
    /// Bytes needed.
    pub(crate) found: u64,
    /// Bytes at most.
    pub(crate) allowed: u64,
}

/// Blocks from some cluster on, then the table.
#[derive(Debug)]
pub(crate) struct RefcountLayout {
    geometry: Geometry,
    start: u64,
    /// Indexes of the blocks that are needed, in the order in which they lie.
    blocks: BTreeSet<u64>,
    table_clusters: u64,
}

impl RefcountLayout {
    /// A structure at cluster `start`, behind everything, for what is `wanted`, and for itself.
    pub(crate) fn new(
        geometry: Geometry,
        wanted: &Census,
        start: u64,
    ) -> Result<Self, TableTooLarge> {
        let per_block = geometry.refcounts_per_block();
        let blocks = wanted.counts().map(|(cluster, _)| cluster.get() / per_block).collect();
        let mut layout = Self { geometry, start, blocks, table_clusters: 1 };
        // The structure counts itself, so it grows until that changes nothing.
        loop {
            let before = layout.clusters();
            layout.blocks.extend(start / per_block..=(start + before - 1) / per_block);
            let entries = layout.blocks.last().map_or(0, |last| last + 1);
            layout.table_clusters = entries.div_ceil(geometry.table_entries_per_cluster());
            if layout.clusters() == before {
                break;
            }
        }
        let (found, allowed) = (
            layout.table_clusters.saturating_mul(geometry.cluster_bytes()),
            limit::REFCOUNT_TABLE_BYTES_MAX,
        );
        if found > allowed {
            return Err(TableTooLarge { found, allowed });
        }
        Ok(layout)
    }

    /// Clusters of all of it.
    pub(crate) fn clusters(&self) -> u64 {
        self.blocks.len() as u64 + self.table_clusters
    }

    /// Where the table lies.
    pub(crate) fn table(&self) -> TablePointer {
        let cluster = self.start + self.blocks.len() as u64;
        TablePointer {
            offset: HostOffset::new(cluster * self.geometry.cluster_bytes()),
            count: u32::try_from(self.table_clusters).unwrap_or(u32::MAX),
        }
    }

    /// Each block that is needed, with the cluster it will lie in.
    fn placed_blocks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.blocks.iter().copied().zip(self.start..)
    }

    /// The entries of the table.
    pub(crate) fn table_entries(&self) -> Vec<u64> {
        let count = self.table_clusters * self.geometry.table_entries_per_cluster();
        let mut entries = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        for (index, cluster) in self.placed_blocks() {
            let offset = HostOffset::new(cluster * self.geometry.cluster_bytes());
            if let Some(entry) = usize::try_from(index).ok().and_then(|i| entries.get_mut(i)) {
                *entry = RefcountTableEntry::new(offset).bits();
            }
        }
        entries
    }

    /// Shows each block, with the host offset it belongs to, to `write`. Counts of `wanted` that do
    /// not fit are cut to the largest that does.
    pub(crate) fn blocks<E>(
        &self,
        wanted: &Census,
        mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let geometry = self.geometry;
        let (per_block, order) = (geometry.refcounts_per_block(), geometry.refcount_order());
        let block_bytes = usize::try_from(geometry.cluster_bytes()).unwrap_or(usize::MAX);
        let mut counts = wanted.counts().peekable();
        for (index, cluster) in self.placed_blocks() {
            let mut block = RefcountBlock::zeroed(order, block_bytes);
            while let Some((counted, count)) =
                counts.next_if(|(counted, _)| counted.get() / per_block == index)
            {
                let slot = usize::try_from(counted.get() % per_block).unwrap_or(usize::MAX);
                let fits = block.set(slot, count.min(order.max_count()));
                debug_assert_eq!(fits, Ok(()), "the count was cut to the width");
            }
            write(cluster * geometry.cluster_bytes(), block.as_bytes())?;
        }
        Ok(())
    }

    /// Counts its own clusters.
    pub(crate) fn count_itself(&self, wanted: &mut Census) {
        wanted.add(HostCluster::new(self.start), self.clusters(), 1);
    }
}
