//! L1 table entry: where an L2 table lies, and whether it may be changed in place.

use static_assertions::const_assert_eq;
use zerocopy::byteorder::big_endian::U64;

use crate::unit::HostOffset;

/// One entry of an L1 table, any bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct L1Entry(u64);

const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const RESERVED_MASK: u64 = 0x7f00_0000_0000_01ff;

const_assert_eq!(OFFSET_MASK ^ COPIED ^ RESERVED_MASK, u64::MAX);
const_assert_eq!(OFFSET_MASK & RESERVED_MASK, 0);
const_assert_eq!(size_of::<U64>(), 8);

impl L1Entry {
    /// No L2 table.
    pub const UNALLOCATED: Self = Self(0);

    /// Wraps the bits as they stand on disk (after byte order).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits as they stand on disk.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// An entry that points at a table with refcount 1, changeable in place.
    #[must_use]
    pub const fn owned(table: HostOffset) -> Self {
        Self((table.get() & OFFSET_MASK) | COPIED)
    }

    /// Where the L2 table lies; `None` if there is none. Reserved bits are masked out. The offset
    /// may be unaligned in a broken image: compare it with the geometry before use.
    #[must_use]
    pub const fn table_offset(self) -> Option<HostOffset> {
        match self.0 & OFFSET_MASK {
            0 => None,
            offset => Some(HostOffset::new(offset)),
        }
    }

    /// Whether the table's refcount is exactly 1, so that it may be changed in place.
    #[must_use]
    pub const fn is_copied(self) -> bool {
        self.0 & COPIED != 0
    }

    /// The same entry with the COPIED flag as given.
    #[must_use]
    pub const fn with_copied(self, copied: bool) -> Self {
        if copied { Self(self.0 | COPIED) } else { Self(self.0 & !COPIED) }
    }

    /// Bits that must be zero and are not.
    #[must_use]
    pub const fn reserved_bits(self) -> u64 {
        self.0 & RESERVED_MASK
    }
}

#[cfg(test)]
mod tests;
