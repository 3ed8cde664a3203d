//! The counts that are stored in the refcount blocks.

use std::ops::Range;

use qcow2_format::{HostCluster, RefcountBlock, RefcountTableEntry};
use refcount::Census;

use super::CheckError;
use super::image::Image;

/// The stored counts of the clusters below a limit; the others are looked up one by one.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) counts: Census,
    limit: u64,
    /// Clusters whose block cannot be read, ascending.
    unreadable: Vec<Range<u64>>,
}

/// Where the block of a table entry lies, or why it has no place.
enum BlockPlace {
    Absent,
    At(u64),
    /// At no cluster boundary, or beyond any file.
    Nowhere,
}

fn block_place(image: &Image<'_>, table_index: u64) -> BlockPlace {
    let index = usize::try_from(table_index).unwrap_or(usize::MAX);
    let entry = image.refcount_table.get(index).copied().unwrap_or(0);
    let Some(offset) = RefcountTableEntry::from_bits(entry).block_offset() else {
        return BlockPlace::Absent;
    };
    let geometry = image.layout.geometry;
    let end = offset.get().checked_add(geometry.cluster_bytes());
    let fits = end.is_some_and(|end| i64::try_from(end).is_ok());
    if fits && geometry.is_cluster_aligned(offset.get()) {
        BlockPlace::At(offset.get())
    } else {
        BlockPlace::Nowhere
    }
}

impl Stored {
    /// Reads the counts of all clusters below `limit`.
    pub(super) fn load(image: &Image<'_>, limit: u64) -> Result<Self, CheckError> {
        let mut stored = Self { counts: Census::new(), limit, unreadable: Vec::new() };
        let per_block = image.layout.geometry.refcounts_per_block();
        let tables = (image.refcount_table.len() as u64).min(limit.div_ceil(per_block));
        for table_index in 0..tables {
            let first = table_index * per_block;
            let clusters = first..limit.min(first + per_block);
            match block_place(image, table_index) {
                BlockPlace::Absent => {}
                BlockPlace::Nowhere => stored.unreadable.push(clusters),
                BlockPlace::At(offset) => stored.load_block(image, offset, clusters)?,
            }
        }
        Ok(stored)
    }

    fn load_block(
        &mut self,
        image: &Image<'_>,
        offset: u64,
        clusters: Range<u64>,
    ) -> Result<(), CheckError> {
        let bytes = image.read(offset, image.layout.cluster_bytes())?;
        let block = RefcountBlock::from_bytes(image.layout.geometry.refcount_order(), bytes);
        if !block.is_empty() {
            for (slot, cluster) in clusters.enumerate() {
                self.counts.set(HostCluster::new(cluster), block.get(slot));
            }
        }
        Ok(())
    }

    /// The stored count of a cluster; `None` if its block cannot be read.
    pub(super) fn get(&self, image: &Image<'_>, cluster: u64) -> Result<Option<u64>, CheckError> {
        if cluster >= self.limit {
            return look_up(image, cluster);
        }
        let after = self.unreadable.partition_point(|range| range.end <= cluster);
        if self.unreadable.get(after).is_some_and(|range| range.contains(&cluster)) {
            return Ok(None);
        }
        Ok(Some(self.counts.get(HostCluster::new(cluster))))
    }

    /// The clusters whose block cannot be read, ascending.
    pub(super) fn unreadable(&self) -> &[Range<u64>] {
        &self.unreadable
    }

    /// One more than the highest cluster whose counts were read.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }
}

/// Reads one count from its block.
fn look_up(image: &Image<'_>, cluster: u64) -> Result<Option<u64>, CheckError> {
    let geometry = image.layout.geometry;
    let per_block = geometry.refcounts_per_block();
    let offset = match block_place(image, cluster / per_block) {
        BlockPlace::Absent => return Ok(Some(0)),
        BlockPlace::Nowhere => return Ok(None),
        BlockPlace::At(offset) => offset,
    };
    // Counts narrower than a byte share one; wider ones are whole bytes.
    let order = geometry.refcount_order();
    let bit = (cluster % per_block) << order.get();
    let bytes = image.read(offset + bit / 8, u64::from(order.bits().div_ceil(8)))?;
    let slot = (bit % 8) >> order.get();
    let block = RefcountBlock::from_bytes(order, bytes);
    Ok(Some(block.get(usize::try_from(slot).unwrap_or(0))))
}

/// Writes changed counts back, block by block.
#[derive(Debug, Default)]
pub(super) struct BlockWriter {
    current: Option<(u64, RefcountBlock)>,
}

impl BlockWriter {
    /// Replaces one count in a block that is there. Ascending clusters read each block once.
    pub(super) fn set(
        &mut self,
        image: &mut Image<'_>,
        cluster: u64,
        count: u64,
    ) -> Result<(), CheckError> {
        let geometry = image.layout.geometry;
        let per_block = geometry.refcounts_per_block();
        let BlockPlace::At(offset) = block_place(image, cluster / per_block) else {
            return Ok(());
        };
        if self.current.as_ref().is_none_or(|&(current, _)| current != offset) {
            self.finish(image)?;
            let bytes = image.read(offset, geometry.cluster_bytes())?;
            let block = RefcountBlock::from_bytes(geometry.refcount_order(), bytes);
            self.current = Some((offset, block));
        }
        if let Some((_, block)) = &mut self.current {
            let slot = usize::try_from(cluster % per_block).unwrap_or(usize::MAX);
            // What is found was cut to what the width can say.
            let fits = block.set(slot, count);
            debug_assert_eq!(fits, Ok(()), "counts are cut to the width before");
        }
        Ok(())
    }

    /// Writes the last block.
    pub(super) fn finish(&mut self, image: &mut Image<'_>) -> Result<(), CheckError> {
        if let Some((offset, block)) = self.current.take() {
            image.write(offset, block.as_bytes())?;
        }
        Ok(())
    }
}
