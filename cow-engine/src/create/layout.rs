//! Where the structures of a new image lie, in clusters: computed in closed form, however much is
//! preallocated.

use qcow2_format::{Geometry, HostCluster, HostOffset, limit};

use super::refcount_blocks;
use crate::error::Result;

/// What a new image needs, in clusters and entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Entries of the L1 table.
    pub(super) l1_entries: u64,
    /// L2 tables that exist from the beginning.
    pub(super) l2_tables: u64,
    /// Data clusters in the image file that exist from the beginning.
    pub(super) data_clusters: u64,
}

/// Where everything lies. The used clusters are those from 0 up to [`Layout::used`], without a
/// hole between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    pub(super) needs: Needs,
    /// Clusters of the refcount table, which starts at cluster 1.
    pub(super) table_clusters: u64,
    pub(super) blocks: Blocks,
    /// First cluster of the L1 table.
    pub(super) l1: u64,
    /// First cluster behind the metadata: data, if there is any.
    pub(super) data: u64,
}

/// Where the refcount blocks lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    /// One after the other, right behind the table.
    InOrder {
        /// How many.
        count: u64,
    },
    /// The first one behind the table, the others behind the L1 table: `places[i]` is the cluster
    /// of block `i`.
    AroundL1 {
        /// One cluster per block.
        places: Vec<u64>,
    },
}

impl Layout {
    /// Chooses the places.
    ///
    /// Without preallocation everything lies where the reference implementation puts it, byte for
    /// byte, unless its refcount table would have to grow while it creates the image. Otherwise:
    /// header, refcount table, refcount blocks, L1 table, L2 tables, data, each in one piece.
    ///
    /// # Errors
    /// The refcount table would be too large, or the file would reach beyond 2^56 bytes.
    pub(super) fn new(geometry: Geometry, needs: Needs) -> Result<Self> {
        let l1_clusters = geometry.clusters_for(needs.l1_entries * 8);
        if needs.l2_tables == 0
            && let Some(places) = refcount_blocks::around_l1(geometry, l1_clusters)
        {
            let l1 = refcount_blocks::L1_CLUSTER;
            let data = l1 + l1_clusters + places.len() as u64 - 1;
            let blocks = Blocks::AroundL1 { places };
            return Ok(Self { geometry, needs, table_clusters: 1, blocks, l1, data });
        }
        let counted = l1_clusters + needs.l2_tables + needs.data_clusters;
        let (table_clusters, count) = refcount_blocks::in_order(geometry, 1 + counted)?;
        let l1 = 1 + table_clusters + count;
        let data = l1 + l1_clusters + needs.l2_tables;
        let blocks = Blocks::InOrder { count };
        let layout = Self { geometry, needs, table_clusters, blocks, l1, data };
        let last = HostCluster::new(layout.used());
        match geometry.host_offset(last) {
            Some(end) if end.get() <= limit::HOST_OFFSET_MAX => Ok(layout),
            _ => Err(refcount::Error::BeyondLimit { cluster: last }.into()),
        }
    }

    pub(super) const fn table(&self) -> u64 {
        1
    }

    pub(super) fn l1_clusters(&self) -> u64 {
        self.geometry.clusters_for(self.needs.l1_entries * 8)
    }

    /// First cluster of the L2 tables.
    pub(super) const fn l2(&self) -> u64 {
        self.data - self.needs.l2_tables
    }

    /// Clusters with a refcount of 1: all of them from the first one on.
    pub(super) const fn used(&self) -> u64 {
        self.data + self.needs.data_clusters
    }

    /// Start of a cluster below [`Layout::used`]: those were proven to be addressable.
    pub(super) const fn offset(&self, cluster: u64) -> HostOffset {
        HostOffset::new(cluster * self.geometry.cluster_bytes())
    }

    pub(super) fn block_count(&self) -> u64 {
        match &self.blocks {
            Blocks::InOrder { count } => *count,
            Blocks::AroundL1 { places } => places.len() as u64,
        }
    }

    /// The cluster of a refcount block.
    pub(super) fn block(&self, index: u64) -> u64 {
        match &self.blocks {
            Blocks::InOrder { .. } => self.table() + self.table_clusters + index,
            Blocks::AroundL1 { places } => places[index as usize],
        }
    }

    /// How many counts of a refcount block are 1; the others are 0.
    pub(super) fn counts_in_block(&self, index: u64) -> u64 {
        let per_block = self.geometry.refcounts_per_block();
        self.used().saturating_sub(index * per_block).min(per_block)
    }
}
