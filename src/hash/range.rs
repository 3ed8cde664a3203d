//! Hashes of ranges: nodes of the tree, told as they become known.

use std::fmt;

use super::tree::Zeros;
use super::{BLOCK_BITS, BLOCK_BYTES, Digest};

/// Length of ranges that are hashed on their own: a power of two, at least a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeBytes {
    level: u32,
}

/// A length that no node of the tree has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRange {
    /// The length in bytes.
    pub found: u64,
}

impl RangeBytes {
    /// Ranges of `bytes`.
    ///
    /// # Errors
    /// It is no power of two between a block and 2^62.
    pub const fn new(bytes: u64) -> Result<Self, NoRange> {
        if bytes.is_power_of_two() && bytes >= BLOCK_BYTES && bytes < 1 << 63 {
            return Ok(Self { level: bytes.trailing_zeros() - BLOCK_BITS });
        }
        Err(NoRange { found: bytes })
    }

    /// The length in bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        BLOCK_BYTES << self.level
    }

    /// The hash of a range of zeros, which no sweep tells.
    #[must_use]
    pub fn zeros(self) -> Digest {
        Zeros::new().node(self.level)
    }

    pub(super) const fn level(self) -> u32 {
        self.level
    }
}

impl std::error::Error for NoRange {}

impl fmt::Display for NoRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        write!(f, "ranges of {found} bytes, allowed are powers of two from {BLOCK_BYTES} on")
    }
}

/// A range that is not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeHash {
    /// First guest byte. What lies behind the end of the disk counts as zeros.
    pub start: u64,
    /// Its hash.
    pub hash: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_powers_of_two() {
        for bytes in [1 << 16, 1 << 20, 1 << 62] {
            assert_eq!(RangeBytes::new(bytes).unwrap().get(), bytes);
        }
        for bytes in [0, 1, 512, 1 << 15, (1 << 16) + 1, 3 << 16, 1 << 63, u64::MAX] {
            assert_eq!(RangeBytes::new(bytes), Err(NoRange { found: bytes }));
        }
    }
}
