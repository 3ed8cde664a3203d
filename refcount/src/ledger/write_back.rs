//! What of the ledger has to reach the disk: changed blocks, and table entries of new blocks.
//!
//! A block in memory never holds a fall that the disk may not see yet (RC-1), so blocks may be
//! written at any time. A table entry may be written once its block is durable.

use alloc::vec::Vec;

use qcow2_format::{HostOffset, RefcountTableEntry};

use super::{Block, Ledger};

/// Bytes of a refcount block for a place in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockWrite {
    /// Where the block lies.
    pub offset: HostOffset,
    /// The whole block.
    pub bytes: Vec<u8>,
}

impl Ledger {
    /// Copies of all changed blocks, which then count as clean, but stay in memory until they
    /// have [arrived](Self::written). If they do not all reach the disk, the image must be given up:
    /// what the disk holds is unknown.
    pub fn take_dirty(&mut self) -> Vec<BlockWrite> {
        let table = &self.table;
        let dirty = self.blocks.iter_mut().filter(|(_, block)| block.dirty);
        dirty
            .filter_map(|(&table_index, block)| {
                let index = usize::try_from(table_index).ok()?;
                let offset = table.get(index)?.block_offset()?;
                block.dirty = false;
                block.leaving = true;
                Some(BlockWrite { offset, bytes: block.counts.as_bytes().to_vec() })
            })
            .collect()
    }

    /// All copies that were taken are on the disk: their blocks may be forgotten.
    pub fn written(&mut self) {
        self.blocks.values_mut().for_each(|block| block.leaving = false);
        self.count_held();
    }

    pub(super) fn count_held(&mut self) {
        self.held = self.blocks.values().filter(|block| !block.is_on_disk()).count();
    }

    /// Table entries (index and value) of blocks that the table on disk does not know yet; they
    /// then count as known.
    pub fn take_hooks(&mut self) -> Vec<(u64, RefcountTableEntry)> {
        let table = &self.table;
        let unhooked = self.blocks.iter_mut().filter(|(_, block)| !block.hooked);
        unhooked
            .filter_map(|(&table_index, block)| {
                let entry = *table.get(usize::try_from(table_index).ok()?)?;
                block.hooked = true;
                Some((table_index, entry))
            })
            .collect()
    }

    /// Whether any block differs from the disk.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.blocks.values().any(|block| block.dirty || !block.hooked)
    }

    /// Forgets blocks that the disk has, those that came first, until at most `keep` of these are in
    /// memory. A search for neighbours needs two of them at once.
    pub fn evict(&mut self, keep: usize) {
        let excess = self.blocks.len().saturating_sub(self.held).saturating_sub(keep);
        if excess == 0 {
            return;
        }
        let on_disk = self.blocks.iter().filter(|(_, block)| block.is_on_disk());
        let mut on_disk: Vec<(u64, u64)> =
            on_disk.map(|(&table_index, block)| (block.came, table_index)).collect();
        on_disk.sort_unstable();
        for (_, table_index) in on_disk.into_iter().take(excess) {
            self.blocks.remove(&table_index);
        }
    }
}

impl Block {
    /// Read back, it would be the same.
    pub(super) const fn is_on_disk(&self) -> bool {
        !self.dirty && !self.leaving && self.hooked
    }
}
