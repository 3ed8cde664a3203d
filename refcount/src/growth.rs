//! Growth of the refcount table: a new, larger table with blocks that count themselves.
//!
//! The new area starts at the first cluster beyond everything the old table can describe, so that
//! nothing in it can be in use: new blocks first, the new table right behind them, and behind that,
//! where somebody needs neighbouring clusters in great number, those. One header write then
//! switches over; before it nothing points at the area, after it nothing points at the old table.

use core::fmt;

use qcow2_format::{Geometry, HostCluster, limit};

use crate::error::Error;

/// A planned growth of the refcount table: all places and sizes, nothing done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableGrowth {
    /// First cluster of the new area; starts the range of its own first block.
    pub area: HostCluster,
    /// New refcount blocks at the start of the area.
    pub block_count: u64,
    /// Clusters of the new table, right behind the blocks.
    pub table_clusters: u64,
    /// Clusters handed out along with the growth, right behind the table.
    pub extra_clusters: u64,
    /// First cluster of the old table, freed after the switch.
    pub old_table: HostCluster,
    /// Clusters of the old table.
    pub old_table_clusters: u64,
}

impl TableGrowth {
    /// Plans a table that reaches at least `needed_index`, half as large again as needed.
    ///
    /// # Errors
    /// The table would exceed [`limit::REFCOUNT_TABLE_BYTES_MAX`].
    pub fn plan(
        geometry: Geometry,
        old_table: HostCluster,
        old_entries: u64,
        needed_index: u64,
    ) -> Result<Self, Error> {
        Self::plan_with_extra(geometry, old_table, old_entries, needed_index, 0)
    }

    /// Plans a table like [`plan`](Self::plan), with `extra_clusters` in one piece behind it. More
    /// neighbours than one block counts can only be had so: elsewhere each range begins with the
    /// block that counts it.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan).
    pub fn plan_with_extra(
        geometry: Geometry,
        old_table: HostCluster,
        old_entries: u64,
        needed_index: u64,
        extra_clusters: u64,
    ) -> Result<Self, Error> {
        let per_cluster = geometry.table_entries_per_cluster();
        let per_block = geometry.refcounts_per_block();
        let first_index = old_entries.max(needed_index);
        let mut block_count = 1_u64;
        // Blocks and table describe themselves: widen until the sizes no longer change. Each
        // round adds less than the last, and both are bounded by the table limit.
        let table_clusters = loop {
            let entries = first_index.saturating_add(block_count);
            let roomy = entries.saturating_add(entries / 2);
            let allowed = limit::REFCOUNT_TABLE_BYTES_MAX / 8;
            if entries > allowed {
                return Err(Error::TableTooLarge {
                    needed_bytes: entries.saturating_mul(8),
                    allowed_bytes: limit::REFCOUNT_TABLE_BYTES_MAX,
                });
            }
            let table_clusters = roomy.min(allowed).div_ceil(per_cluster);
            let used = table_clusters.saturating_add(block_count).saturating_add(extra_clusters);
            let blocks = used.div_ceil(per_block);
            if blocks <= block_count {
                break table_clusters;
            }
            block_count = blocks;
        };
        Ok(Self {
            area: HostCluster::new(first_index.saturating_mul(per_block)),
            block_count,
            table_clusters,
            extra_clusters,
            old_table,
            old_table_clusters: old_entries.div_ceil(per_cluster),
        })
    }

    /// First cluster of the new table.
    #[must_use]
    pub const fn table(&self) -> HostCluster {
        HostCluster::new(self.area.get().saturating_add(self.block_count))
    }

    /// First of the extra clusters, right behind the table.
    #[must_use]
    pub const fn extra(&self) -> HostCluster {
        HostCluster::new(self.table().get().saturating_add(self.table_clusters))
    }

    /// Clusters of the whole area: blocks, table and what comes with them.
    #[must_use]
    pub const fn area_clusters(&self) -> u64 {
        self.block_count.saturating_add(self.table_clusters).saturating_add(self.extra_clusters)
    }

    /// Entries of the new table.
    #[must_use]
    pub const fn table_entries(&self, geometry: Geometry) -> u64 {
        self.table_clusters.saturating_mul(geometry.table_entries_per_cluster())
    }
}

impl fmt::Display for TableGrowth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "write {} refcount blocks at host cluster {}", self.block_count, self.area)?;
        writeln!(
            f,
            "write refcount table, {} clusters at host cluster {}",
            self.table_clusters,
            self.table()
        )?;
        if self.extra_clusters > 0 {
            let (count, first) = (self.extra_clusters, self.extra());
            writeln!(f, "hand out {count} clusters at host cluster {first}")?;
        }
        writeln!(f, "sync")?;
        writeln!(f, "write header: refcount table at host cluster {}", self.table())?;
        writeln!(f, "sync")?;
        write!(
            f,
            "free old refcount table, {} clusters at host cluster {}",
            self.old_table_clusters, self.old_table
        )
    }
}
