//! Named limits of the format and of the reference implementation, units last in the name.
//!
//! Everything read from an image is compared with one of these before memory is taken for it.

/// Smallest `cluster_bits`: 512-byte clusters.
pub const CLUSTER_BITS_MIN: u32 = 9;
/// Largest `cluster_bits`: 2 MiB clusters.
pub const CLUSTER_BITS_MAX: u32 = 21;
/// Smallest `cluster_bits` with extended L2 entries: 32 subclusters of at least 512 bytes.
pub const CLUSTER_BITS_EXTENDED_MIN: u32 = 14;
/// Largest `refcount_order`: 64-bit counts.
pub const REFCOUNT_ORDER_MAX: u32 = 6;
/// Largest L1 table, active or of a snapshot.
pub const L1_TABLE_BYTES_MAX: u64 = 32 << 20;
/// Largest refcount table.
pub const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
/// Most internal snapshots.
pub const SNAPSHOT_COUNT_MAX: u32 = 65536;
/// Largest snapshot table.
pub const SNAPSHOT_TABLE_BYTES_MAX: u64 = 64 << 20;
/// Most extra data bytes of one snapshot table entry.
pub const SNAPSHOT_EXTRA_BYTES_MAX: u32 = 1024;
/// Longest backing file name.
pub const BACKING_NAME_BYTES_MAX: u32 = 1023;
/// Longest backing format name.
pub const BACKING_FORMAT_BYTES_MAX: usize = 15;
/// Most persistent bitmaps.
pub const BITMAP_COUNT_MAX: u32 = 65535;
/// Largest bitmap directory.
pub const BITMAP_DIRECTORY_BYTES_MAX: u64 = 65535 * 1024;
/// Longest bitmap name.
pub const BITMAP_NAME_BYTES_MAX: u16 = 1023;
/// Most bytes of bitmap data for one bitmap (table entries times cluster size).
pub const BITMAP_DATA_BYTES_MAX: u64 = 512 << 20;
/// Host offsets in tables are below this (56 bits).
pub const HOST_OFFSET_MAX: u64 = 1 << 56;
/// Unit of the virtual disk size.
pub const SECTOR_BYTES: u64 = 512;
