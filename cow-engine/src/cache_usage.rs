//! What the caches of an image hold at this moment.

use crate::image::Image;

/// What the caches of an image hold at this moment, in pieces of its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheUsage {
    /// Slices of L2 tables in memory.
    pub l2_slices: usize,
    /// Those among them that the next flush writes.
    pub l2_slices_dirty: usize,
    /// Bytes of tables in all of them.
    pub l2_bytes: u64,
    /// Refcount blocks in memory.
    pub refcount_blocks: usize,
    /// Those among them that must stay until they are written.
    pub refcount_blocks_dirty: usize,
    /// Bytes of all of them.
    pub refcount_bytes: u64,
}

impl Image {
    /// What the caches hold at this moment. The budgets are those of
    /// [`OpenOptions`](crate::OpenOptions).
    #[must_use]
    pub fn cache_usage(&self) -> CacheUsage {
        let (l2_slices, l2_slices_dirty) = self.slices.counts();
        let slice_bytes = self.slice_bytes();
        let blocks = self.writer.as_ref().map(|writer| writer.allocator.block_counts());
        let (refcount_blocks, refcount_blocks_dirty) = blocks.unwrap_or_default();
        CacheUsage {
            l2_slices,
            l2_slices_dirty,
            l2_bytes: l2_slices as u64 * slice_bytes,
            refcount_blocks,
            refcount_blocks_dirty,
            refcount_bytes: refcount_blocks as u64 * self.geometry().cluster_bytes(),
        }
    }
}
