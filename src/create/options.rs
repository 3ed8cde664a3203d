//! What a new image should be like.

use chain::Format;
use cow_engine::{BackingReference, DataFileReference, Preallocation};
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};

/// Extent size hint for new files, in bytes, as the reference implementation gives it.
pub const EXTENT_SIZE_HINT_DEFAULT: u32 = 1 << 20;

/// What the new image should be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Format of the image.
    pub format: Format,
    /// Size of the virtual disk in bytes; rounded up to whole 512-byte sectors.
    pub virtual_size: u64,
    /// How much is prepared in advance. Raw images have no metadata of their own; for them this is
    /// a mistake.
    pub preallocation: Preallocation,
    /// What only qcow2 has.
    pub qcow2: Qcow2Options,
    /// What the host file system is asked for.
    pub hints: HostHints,
}

/// What only qcow2 has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Options {
    /// Version of the format.
    pub version: Version,
    /// Bytes per cluster: a power of two between 512 and 2 MiB.
    pub cluster_size: u64,
    /// Width of a refcount: a power of two up to 64. Version 2 has 16 alone.
    pub refcount_bits: u64,
    /// How compressed clusters will be compressed.
    pub compression: CompressionType,
    /// Refcount updates may be postponed.
    pub lazy_refcounts: bool,
    /// L2 entries have subclusters.
    pub extended_l2: bool,
    /// Name and format of the backing file, stored as they are.
    pub backing: Option<BackingReference>,
    /// Whether the image remembers which file its backing file is, where that can be opened and the
    /// header has room.
    pub record_base: bool,
    /// Name of the external data file, which is made too, and whether it stays a raw image.
    pub data_file: Option<DataFileReference>,
}

/// What the host file system is asked for when a file is made. One that does not know it does
/// without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostHints {
    /// Overwrite in place where the file system would copy (btrfs).
    pub nocow: bool,
    /// Allocate in pieces of so many bytes (XFS); 0 for none.
    pub extent_size: u32,
}

impl CreateOptions {
    /// The defaults of the reference implementation.
    #[must_use]
    pub fn new(format: Format, virtual_size: u64) -> Self {
        Self {
            format,
            virtual_size,
            preallocation: Preallocation::Off,
            qcow2: Qcow2Options::default(),
            hints: HostHints::default(),
        }
    }
}

impl Default for Qcow2Options {
    fn default() -> Self {
        Self {
            version: Version::V3,
            cluster_size: 1 << ClusterBits::DEFAULT.get(),
            refcount_bits: RefcountOrder::DEFAULT.bits().into(),
            compression: CompressionType::Deflate,
            lazy_refcounts: false,
            extended_l2: false,
            backing: None,
            record_base: true,
            data_file: None,
        }
    }
}

impl Default for HostHints {
    fn default() -> Self {
        Self { nocow: false, extent_size: EXTENT_SIZE_HINT_DEFAULT }
    }
}
