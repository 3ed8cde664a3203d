//! The fixed fields of the header as they lie on disk.

use core::mem::offset_of;

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Value of [`RawHeaderV2::magic`]: `QFI` and 0xfb.
pub const MAGIC: u32 = 0x5146_49fb;

/// The first 72 bytes: all of a version 2 header, the start of a version 3 header.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawHeaderV2 {
    /// [`MAGIC`].
    pub magic: U32,
    /// 2 or 3.
    pub version: U32,
    /// Offset of the backing file name in cluster 0; 0 for none.
    pub backing_file_offset: U64,
    /// Bytes of the backing file name; means nothing when the offset is 0.
    pub backing_file_size: U32,
    /// Power of two of the cluster size.
    pub cluster_bits: U32,
    /// Virtual disk size in bytes.
    pub size: U64,
    /// 0 none, 1 AES, 2 LUKS.
    pub crypt_method: U32,
    /// Entries of the active L1 table.
    pub l1_size: U32,
    /// Host offset of the active L1 table.
    pub l1_table_offset: U64,
    /// Host offset of the refcount table.
    pub refcount_table_offset: U64,
    /// Clusters of the refcount table.
    pub refcount_table_clusters: U32,
    /// Number of internal snapshots.
    pub nb_snapshots: U32,
    /// Host offset of the snapshot table.
    pub snapshots_offset: U64,
}
const_assert_eq!(size_of::<RawHeaderV2>(), 72);
const_assert_eq!(align_of::<RawHeaderV2>(), 1);
const_assert_eq!(offset_of!(RawHeaderV2, magic), 0);
const_assert_eq!(offset_of!(RawHeaderV2, version), 4);
const_assert_eq!(offset_of!(RawHeaderV2, backing_file_offset), 8);
const_assert_eq!(offset_of!(RawHeaderV2, backing_file_size), 16);
const_assert_eq!(offset_of!(RawHeaderV2, cluster_bits), 20);
const_assert_eq!(offset_of!(RawHeaderV2, size), 24);
const_assert_eq!(offset_of!(RawHeaderV2, crypt_method), 32);
const_assert_eq!(offset_of!(RawHeaderV2, l1_size), 36);
const_assert_eq!(offset_of!(RawHeaderV2, l1_table_offset), 40);
const_assert_eq!(offset_of!(RawHeaderV2, refcount_table_offset), 48);
const_assert_eq!(offset_of!(RawHeaderV2, refcount_table_clusters), 56);
const_assert_eq!(offset_of!(RawHeaderV2, nb_snapshots), 60);
const_assert_eq!(offset_of!(RawHeaderV2, snapshots_offset), 64);
assert_impl_all!(RawHeaderV2: FromBytes, IntoBytes, Unaligned);

/// Bytes 72..104: what version 3 adds and requires. Later fields exist only as far as
/// `header_length` says, so they are not part of any struct.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawHeaderV3Tail {
    /// Bits that must be known to open the image.
    pub incompatible_features: U64,
    /// Bits that may be ignored.
    pub compatible_features: U64,
    /// Bits to clear before the first write if not known.
    pub autoclear_features: U64,
    /// Power of two of the refcount width in bits.
    pub refcount_order: U32,
    /// Bytes of the header; extensions start there.
    pub header_length: U32,
}
const_assert_eq!(size_of::<RawHeaderV3Tail>(), 32);
const_assert_eq!(align_of::<RawHeaderV3Tail>(), 1);
const_assert_eq!(offset_of!(RawHeaderV3Tail, incompatible_features), 0);
const_assert_eq!(offset_of!(RawHeaderV3Tail, compatible_features), 8);
const_assert_eq!(offset_of!(RawHeaderV3Tail, autoclear_features), 16);
const_assert_eq!(offset_of!(RawHeaderV3Tail, refcount_order), 24);
const_assert_eq!(offset_of!(RawHeaderV3Tail, header_length), 28);
assert_impl_all!(RawHeaderV3Tail: FromBytes, IntoBytes, Unaligned);

/// Bytes of a version 2 header.
pub(crate) const V2_BYTES: usize = size_of::<RawHeaderV2>();
/// Smallest version 3 header.
pub(crate) const V3_BYTES_MIN: usize = V2_BYTES.saturating_add(size_of::<RawHeaderV3Tail>());
/// Offset of the compression type byte.
pub(crate) const COMPRESSION_TYPE_OFFSET: usize = 104;
/// Version 3 header as the reference implementation writes it; unknown fields start here.
pub(crate) const V3_BYTES: usize = 112;
const_assert_eq!(V3_BYTES_MIN, COMPRESSION_TYPE_OFFSET);
