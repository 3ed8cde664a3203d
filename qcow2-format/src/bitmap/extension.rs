//! The header extension that points at the bitmap directory.

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Structure};
use crate::geometry::Geometry;
use crate::limit;
use crate::unit::HostOffset;

/// The bitmaps header extension as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBitmapsExtension {
    /// Number of bitmaps.
    pub nb_bitmaps: U32,
    /// Must be zero.
    pub reserved: U32,
    /// Bytes of the directory.
    pub directory_size: U64,
    /// Host offset of the directory.
    pub directory_offset: U64,
}
const_assert_eq!(size_of::<RawBitmapsExtension>(), 24);
const_assert_eq!(align_of::<RawBitmapsExtension>(), 1);
const_assert_eq!(core::mem::offset_of!(RawBitmapsExtension, reserved), 4);
const_assert_eq!(core::mem::offset_of!(RawBitmapsExtension, directory_size), 8);
const_assert_eq!(core::mem::offset_of!(RawBitmapsExtension, directory_offset), 16);
assert_impl_all!(RawBitmapsExtension: FromBytes, IntoBytes, Unaligned);

/// Where the bitmap directory lies. Only checked against the limits when the autoclear bit says
/// that it can be trusted; otherwise these are just the numbers that stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitmapsExtension {
    raw: RawBitmapsExtension,
}

impl BitmapsExtension {
    /// Wraps the numbers as they stand on disk.
    #[must_use]
    pub const fn from_raw(raw: RawBitmapsExtension) -> Self {
        Self { raw }
    }

    /// Describes a directory of `count` bitmaps.
    #[must_use]
    pub const fn new(count: u32, directory_offset: HostOffset, directory_bytes: u64) -> Self {
        Self {
            raw: RawBitmapsExtension {
                nb_bitmaps: U32::new(count),
                reserved: U32::ZERO,
                directory_size: U64::new(directory_bytes),
                directory_offset: U64::new(directory_offset.get()),
            },
        }
    }

    /// The numbers as they stand on disk.
    #[must_use]
    pub const fn to_raw(self) -> RawBitmapsExtension {
        self.raw
    }

    /// Number of bitmaps.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.raw.nb_bitmaps.get()
    }

    /// Host offset of the directory.
    #[must_use]
    pub const fn directory_offset(self) -> HostOffset {
        HostOffset::new(self.raw.directory_offset.get())
    }

    /// Bytes of the directory.
    #[must_use]
    pub const fn directory_bytes(self) -> u64 {
        self.raw.directory_size.get()
    }

    /// Checks the numbers; `at` is the image offset of the extension's data.
    pub(crate) fn validate(self, geometry: Geometry, at: u64) -> Result<(), Error> {
        let structure = Structure::Extension(crate::extension::BITMAPS);
        let number = |field, offset, found, allowed| {
            Err(Error::number(structure, field, at.checked_add(offset), found, allowed))
        };
        if self.raw.reserved.get() != 0 {
            return number("reserved", 4, u64::from(self.raw.reserved.get()), "0");
        }
        if self.count() == 0 || self.count() > limit::BITMAP_COUNT_MAX {
            return number("nb_bitmaps", 0, u64::from(self.count()), "1..=65535");
        }
        let offset = self.directory_offset().get();
        if !geometry.is_cluster_aligned(offset) {
            let allowed = "a multiple of the cluster size";
            let at = at.checked_add(16);
            return Err(Error::hex(structure, "bitmap_directory_offset", at, offset, allowed));
        }
        let bytes = self.directory_bytes();
        if bytes == 0 || bytes > limit::BITMAP_DIRECTORY_BYTES_MAX {
            return number("bitmap_directory_size", 8, bytes, "1..=67107840");
        }
        Ok(())
    }
}
