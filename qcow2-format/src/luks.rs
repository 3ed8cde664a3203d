//! Pointer to the LUKS header area. What lies there is not this crate's business.

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::unit::HostOffset;

/// The LUKS header extension as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawLuksPointer {
    /// Host offset of the area.
    pub offset: U64,
    /// Bytes of the area.
    pub length: U64,
}
const_assert_eq!(size_of::<RawLuksPointer>(), 16);
const_assert_eq!(align_of::<RawLuksPointer>(), 1);
const_assert_eq!(core::mem::offset_of!(RawLuksPointer, length), 8);
assert_impl_all!(RawLuksPointer: FromBytes, IntoBytes, Unaligned);

/// Where the LUKS header area lies; the offset is a multiple of the cluster size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LuksPointer {
    /// Host offset of the area.
    pub offset: HostOffset,
    /// Bytes of the area.
    pub bytes: u64,
}

impl LuksPointer {
    /// The numbers as they stand on disk.
    #[must_use]
    pub const fn to_raw(self) -> RawLuksPointer {
        RawLuksPointer { offset: U64::new(self.offset.get()), length: U64::new(self.bytes) }
    }

    /// The numbers as they stand on disk, unchecked.
    #[must_use]
    pub const fn from_raw(raw: RawLuksPointer) -> Self {
        Self { offset: HostOffset::new(raw.offset.get()), bytes: raw.length.get() }
    }
}
