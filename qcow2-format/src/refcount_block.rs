//! Refcount block: one cluster of counts, 1 to 64 bits wide.
//!
//! Counts narrower than a byte are packed with the lowest index in the least significant bits;
//! counts of 16 bits and more are big-endian.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::geometry::RefcountOrder;

/// A count that does not fit the width of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefcountOverflow {
    /// The count that was to be stored.
    pub count: u64,
    /// The largest one that fits.
    pub max: u64,
}

impl core::error::Error for RefcountOverflow {}

impl fmt::Display for RefcountOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refcount {} does not fit, the largest is {}", self.count, self.max)
    }
}

/// The bytes of a refcount block with their width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefcountBlock {
    order: RefcountOrder,
    bytes: Vec<u8>,
}

impl RefcountBlock {
    /// A block of `cluster_bytes` bytes in which every count is 0.
    #[must_use]
    pub fn zeroed(order: RefcountOrder, cluster_bytes: usize) -> Self {
        Self { order, bytes: vec![0; cluster_bytes] }
    }

    /// Takes the bytes of a block as read from disk.
    #[must_use]
    pub const fn from_bytes(order: RefcountOrder, bytes: Vec<u8>) -> Self {
        Self { order, bytes }
    }

    /// The bytes as they go to disk.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of counts.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.bytes.len().saturating_mul(8)) >> self.order.get()
    }

    /// The count at `index`; 0 beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        get_count(self.order, &self.bytes, index)
    }

    /// Stores `count` at `index`. An index beyond the end is ignored: callers derive it from the
    /// geometry that made the block.
    ///
    /// # Errors
    /// `count` does not fit the width.
    pub fn set(&mut self, index: usize, count: u64) -> Result<(), RefcountOverflow> {
        let max = self.order.max_count();
        if count > max {
            return Err(RefcountOverflow { count, max });
        }
        set_count(self.order, &mut self.bytes, index, count);
        Ok(())
    }

    /// Whether every count is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.iter().all(|&byte| byte == 0)
    }

    /// First index in `from..` whose count is 0.
    #[must_use]
    pub fn first_free(&self, from: usize) -> Option<usize> {
        (from..self.count()).find(|&index| self.get(index) == 0)
    }
}

/// Bit position of a narrow count inside its byte, and the mask of its width.
const fn narrow(order: RefcountOrder, index: usize) -> (usize, u32, u8) {
    let per_byte_bits = 3_u32.saturating_sub(order.get());
    let byte = index >> per_byte_bits;
    let slot = (index & ((1_usize << per_byte_bits).saturating_sub(1))) as u32;
    let mask = (1_u16 << order.bits()).wrapping_sub(1) as u8;
    (byte, slot << order.get(), mask)
}

/// Reads the count at `index`; 0 beyond the end.
fn get_count(order: RefcountOrder, bytes: &[u8], index: usize) -> u64 {
    if order.get() < 3 {
        let (byte, shift, mask) = narrow(order, index);
        return bytes.get(byte).map_or(0, |&byte| u64::from((byte >> shift) & mask));
    }
    let width = 1_usize << order.get().saturating_sub(3);
    let start = index.saturating_mul(width);
    let Some(bytes) = bytes.get(start..start.saturating_add(width)) else { return 0 };
    bytes.iter().fold(0, |count, &byte| (count << 8) | u64::from(byte))
}

/// Stores a count that is known to fit.
fn set_count(order: RefcountOrder, bytes: &mut [u8], index: usize, count: u64) {
    if order.get() < 3 {
        let (byte, shift, mask) = narrow(order, index);
        if let Some(byte) = bytes.get_mut(byte) {
            *byte = (*byte & !(mask << shift)) | ((count.to_be_bytes()[7] & mask) << shift);
        }
        return;
    }
    let width = 1_usize << order.get().saturating_sub(3);
    let start = index.saturating_mul(width);
    let source = count.to_be_bytes();
    let Some(source) = source.get(8_usize.saturating_sub(width)..) else { return };
    if let Some(target) = bytes.get_mut(start..start.saturating_add(width)) {
        target.copy_from_slice(source);
    }
}

#[cfg(test)]
mod tests;
