//! Refcount table entry: where a refcount block lies.

use static_assertions::const_assert_eq;

use crate::unit::HostOffset;

/// One entry of the refcount table, any bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RefcountTableEntry(u64);

const OFFSET_MASK: u64 = 0xffff_ffff_ffff_fe00;
const RESERVED_MASK: u64 = 0x1ff;
const_assert_eq!(OFFSET_MASK ^ RESERVED_MASK, u64::MAX);

impl RefcountTableEntry {
    /// No block: all counts it would hold are 0.
    pub const ABSENT: Self = Self(0);

    /// Wraps the bits as they stand on disk (after byte order).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// An entry that points at a block.
    #[must_use]
    pub const fn new(block: HostOffset) -> Self {
        Self(block.get() & OFFSET_MASK)
    }

    /// The bits as they stand on disk.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Where the refcount block lies; `None` if it is absent. May be unaligned in a broken image.
    #[must_use]
    pub const fn block_offset(self) -> Option<HostOffset> {
        match self.0 & OFFSET_MASK {
            0 => None,
            offset => Some(HostOffset::new(offset)),
        }
    }

    /// Bits that must be zero and are not.
    #[must_use]
    pub const fn reserved_bits(self) -> u64 {
        self.0 & RESERVED_MASK
    }
}

#[cfg(test)]
mod tests;
