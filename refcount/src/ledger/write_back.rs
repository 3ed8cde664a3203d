//! What of the ledger has to reach the disk: changed blocks, and table entries of new blocks.
//!
//! A block in memory never holds a fall that the disk may not see yet (RC-1), so blocks may be
//! written at any time. A table entry may be written once its block is durable.

use alloc::vec::Vec;

use qcow2_format::{HostOffset, RefcountTableEntry};

use super::Ledger;

/// Bytes of a refcount block for a place in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockWrite {
    /// Where the block lies.
    pub offset: HostOffset,
    /// The whole block.
    pub bytes: Vec<u8>,
}

impl Ledger {
    /// Copies of all changed blocks, which then count as clean. If they do not all reach the
    /// disk, the image must be given up: what the disk holds is unknown.
    pub fn take_dirty(&mut self) -> Vec<BlockWrite> {
        let table = &self.table;
        let dirty = self.blocks.iter_mut().filter(|(_, block)| block.dirty);
        dirty
            .filter_map(|(&table_index, block)| {
                let index = usize::try_from(table_index).ok()?;
                let offset = table.get(index)?.block_offset()?;
                block.dirty = false;
                Some(BlockWrite { offset, bytes: block.counts.as_bytes().to_vec() })
            })
            .collect()
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

    /// Forgets clean blocks until at most `keep` are in memory.
    pub fn evict(&mut self, keep: usize) {
        let excess = self.blocks.len().saturating_sub(keep);
        let clean: Vec<u64> = self
            .blocks
            .iter()
            .filter(|(_, block)| !block.dirty && block.hooked)
            .map(|(&table_index, _)| table_index)
            .take(excess)
            .collect();
        for table_index in clean {
            self.blocks.remove(&table_index);
        }
    }
}
