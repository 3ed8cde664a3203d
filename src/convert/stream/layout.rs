//! Where everything lies in an image that is written front to back: computed in closed form from
//! what the sources allocate.

use std::fmt;

use cow_engine::{CreateOptions, CreatePlan};
use qcow2_format::{Geometry, Header, HostOffset, TablePointer, limit};

use super::StreamError;
use super::stretch::Stretch;
use crate::create::CreateError;

/// An image that is written front to back, before the first byte of it: header, refcount table,
/// refcount blocks, L1 table, L2 tables, and data in guest order, each in one piece and without a
/// gap. The counts of all its clusters are 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLayout {
    pub(super) header: Header,
    pub(super) stretches: Vec<Stretch>,
    /// L1 indices that have an L2 table.
    pub(super) tables: Vec<u64>,
    pub(super) table_clusters: u64,
    pub(super) block_count: u64,
    data_clusters: u64,
}

impl StreamLayout {
    /// Finds the places of an image for these stretches of guest clusters, in guest order.
    pub(super) fn new(
        options: &CreateOptions,
        stretches: Vec<Stretch>,
    ) -> Result<Self, StreamError> {
        // The header of an empty image, which checks the options as well.
        let header = CreatePlan::new(options).map_err(CreateError::Engine)?.into_header();
        let geometry = header.geometry();
        let tables = tables(geometry, &stretches);
        let data = stretches.iter().filter(|stretch| !stretch.zero);
        let data_clusters = data.map(|stretch| stretch.count).sum();
        let l1_clusters = geometry.clusters_for(u64::from(header.l1_entry_count()) * 8);
        let others = 1 + l1_clusters + tables.len() as u64 + data_clusters;
        let (table_clusters, block_count) = counting(geometry, others)?;
        let layout = Self { header, stretches, tables, table_clusters, block_count, data_clusters };
        layout.with_pointers()
    }

    /// Lets the header point at the tables of this image.
    fn with_pointers(self) -> Result<Self, StreamError> {
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let refcounts = TablePointer { offset: self.offset(1), count: count(self.table_clusters) };
        let l1 = match self.header.l1_entry_count() {
            0 => TablePointer { offset: HostOffset::ZERO, count: 0 },
            count => TablePointer { offset: self.offset(self.l1()), count },
        };
        let header = self.header.clone().with_refcount_table(refcounts);
        let header = header.and_then(|header| header.with_l1_table(l1));
        let header =
            header.map_err(|error| CreateError::Engine(cow_engine::Error::Format(error)))?;
        Ok(Self { header, ..self })
    }

    /// The header of the image.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the image: whole clusters.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.offset(self.clusters()).get()
    }

    /// Clusters that hold guest data.
    #[must_use]
    pub fn data_clusters(&self) -> u64 {
        self.data_clusters
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.header.geometry()
    }

    /// First cluster of the refcount blocks.
    pub(super) fn blocks(&self) -> u64 {
        1 + self.table_clusters
    }

    /// First cluster of the L1 table.
    pub(super) fn l1(&self) -> u64 {
        self.blocks() + self.block_count
    }

    /// First cluster of the L2 tables.
    pub(super) fn l2(&self) -> u64 {
        let bytes = u64::from(self.header.l1_entry_count()) * 8;
        self.l1() + self.geometry().clusters_for(bytes)
    }

    /// First cluster of guest data.
    pub(super) fn data(&self) -> u64 {
        self.l2() + self.tables.len() as u64
    }

    /// All clusters of the image.
    pub(super) fn clusters(&self) -> u64 {
        self.data() + self.data_clusters
    }

    /// Start of a cluster; the refcount table, which counts it, bounds it.
    pub(super) fn offset(&self, cluster: u64) -> HostOffset {
        HostOffset::new(cluster.saturating_mul(self.geometry().cluster_bytes()))
    }
}

/// L1 indices of the tables in which the stretches have entries.
fn tables(geometry: Geometry, stretches: &[Stretch]) -> Vec<u64> {
    let per_table = geometry.l2_entry_count();
    let mut tables: Vec<u64> = Vec::new();
    for stretch in stretches {
        let last = (stretch.first + stretch.count - 1) / per_table;
        let first = match tables.last() {
            Some(known) => (known + 1).max(stretch.first / per_table),
            None => stretch.first / per_table,
        };
        tables.extend(first..=last);
    }
    tables
}

/// Clusters of the refcount table and of its blocks, for so many other clusters and themselves.
fn counting(geometry: Geometry, others: u64) -> Result<(u64, u64), StreamError> {
    let (mut tables, mut blocks) = (1, 1);
    // Each round adds less than the last: a block counts many clusters.
    loop {
        let clusters = others.saturating_add(tables).saturating_add(blocks);
        let more_blocks = clusters.div_ceil(geometry.refcounts_per_block());
        let more_tables = more_blocks.div_ceil(geometry.table_entries_per_cluster());
        let bytes = more_tables.saturating_mul(geometry.cluster_bytes());
        let end = clusters.saturating_mul(geometry.cluster_bytes());
        if bytes > limit::REFCOUNT_TABLE_BYTES_MAX || end > limit::HOST_OFFSET_MAX {
            return Err(StreamError::TooLarge { clusters });
        }
        if (more_tables, more_blocks) == (tables, blocks) {
            return Ok((tables, blocks));
        }
        (tables, blocks) = (more_tables.max(tables), more_blocks.max(blocks));
    }
}

impl fmt::Display for StreamLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.header.version().number();
        let (size, bytes) = (self.header.virtual_size(), self.file_bytes());
        write!(f, "image of version {version} for a disk of {size} bytes, {bytes} bytes long")?;
        let areas = [
            ("header", 0, 1),
            ("refcount table", 1, self.table_clusters),
            ("refcount blocks", self.blocks(), self.block_count),
            ("L1 table", self.l1(), self.l2() - self.l1()),
            ("L2 tables", self.l2(), self.tables.len() as u64),
            ("guest data", self.data(), self.data_clusters),
        ];
        for (name, first, count) in areas.into_iter().filter(|(_, _, count)| *count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "\n{} {name}, {count} cluster{plural}", self.offset(first))?;
        }
        let mut host = self.data();
        for Stretch { first, count, zero } in &self.stretches {
            let cluster = self.geometry().cluster_bytes();
            let (guest, len) = (first * cluster, count * cluster);
            write!(f, "\nguest {guest:#x}+{len:#x} ")?;
            if *zero {
                f.write_str("reads as zeros")?;
            } else {
                write!(f, "at {}", self.offset(host))?;
                host += count;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
