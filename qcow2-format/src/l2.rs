//! L2 table entry: the descriptor word and, with extended entries, the subcluster bitmap.
//!
//! What a combination of bits *means* is the business of the `cluster-map` crate; here are only
//! the bits, their names and their masks.

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::unit::HostOffset;

/// A standard L2 entry as it lies on disk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawL2Entry {
    /// The descriptor word.
    pub descriptor: U64,
}
const_assert_eq!(size_of::<RawL2Entry>(), 8);
assert_impl_all!(RawL2Entry: FromBytes, IntoBytes, Unaligned);

/// An extended L2 entry as it lies on disk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RawL2EntryExtended {
    /// The descriptor word; bit 0 has no meaning here.
    pub descriptor: U64,
    /// Allocation bits 0..=31, zero bits 32..=63.
    pub bitmap: U64,
}
const_assert_eq!(size_of::<RawL2EntryExtended>(), 16);
const_assert_eq!(core::mem::offset_of!(RawL2EntryExtended, bitmap), 8);
assert_impl_all!(RawL2EntryExtended: FromBytes, IntoBytes, Unaligned);

/// The descriptor word of an L2 entry, any bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct L2Entry(u64);

/// The subcluster bitmap of an extended L2 entry, any bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct L2Bitmap(u64);

const ZERO: u64 = 1;
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const COPIED: u64 = 1 << 63;
const RESERVED_MASK: u64 = 0x3f00_0000_0000_01fe;
const_assert_eq!(ZERO ^ OFFSET_MASK ^ COMPRESSED ^ COPIED ^ RESERVED_MASK, u64::MAX);

impl L2Entry {
    /// Nothing here: ask the backing file.
    pub const UNALLOCATED: Self = Self(0);
    /// Reads as zeros, no host cluster (version 3).
    pub const ZERO_PLAIN: Self = Self(ZERO);

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

    /// An entry for a data cluster with refcount 1: `host | COPIED`.
    #[must_use]
    pub const fn owned(host: HostOffset) -> Self {
        Self((host.get() & OFFSET_MASK) | COPIED)
    }

    /// Whether the cluster is compressed; the other masks do not apply then.
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.0 & COMPRESSED != 0
    }

    /// Whether the refcount is said to be exactly 1.
    #[must_use]
    pub const fn is_copied(self) -> bool {
        self.0 & COPIED != 0
    }

    /// The same entry with the COPIED flag as given.
    #[must_use]
    pub const fn with_copied(self, copied: bool) -> Self {
        if copied { Self(self.0 | COPIED) } else { Self(self.0 & !COPIED) }
    }

    /// The zero flag, bit 0; meaningless with extended entries and corruption in version 2.
    #[must_use]
    pub const fn has_zero_flag(self) -> bool {
        self.0 & ZERO != 0
    }

    /// The same entry with the zero flag as given.
    #[must_use]
    pub const fn with_zero_flag(self, zero: bool) -> Self {
        if zero { Self(self.0 | ZERO) } else { Self(self.0 & !ZERO) }
    }

    /// Host offset of a standard cluster, 0 when there is none; reserved bits masked out.
    #[must_use]
    pub const fn host_offset(self) -> HostOffset {
        HostOffset::new(self.0 & OFFSET_MASK)
    }

    /// Bits of a standard descriptor that must be zero and are not; 0 for compressed ones.
    #[must_use]
    pub const fn reserved_bits(self) -> u64 {
        if self.is_compressed() { 0 } else { self.0 & RESERVED_MASK }
    }
}

impl L2Bitmap {
    /// Subclusters in a cluster.
    pub const SUBCLUSTER_COUNT: u32 = 32;
    /// Nothing allocated, nothing zero: transparent to the backing file.
    pub const EMPTY: Self = Self(0);
    /// All subclusters read as zeros.
    pub const ALL_ZERO: Self = Self(0xffff_ffff_0000_0000);
    /// All subclusters hold data.
    pub const ALL_ALLOCATED: Self = Self(0x0000_0000_ffff_ffff);

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

    /// Allocation bits, one per subcluster, lowest first.
    #[must_use]
    pub const fn allocated(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// Zero bits, one per subcluster, lowest first.
    #[must_use]
    pub const fn zero(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Puts the two halves together.
    #[must_use]
    pub const fn from_parts(allocated: u32, zero: u32) -> Self {
        Self(((zero as u64) << 32) | allocated as u64)
    }
}

#[cfg(test)]
mod tests;
