//! How to open an image, and what a new one should be like.

use std::sync::Arc;

use block_io::Storage;
use qcow2_format::{BasePin, ClusterBits, CompressionType, RefcountOrder, Version};

use crate::backing::Backing;
use crate::preallocation::Preallocation;

/// Memory for L2 tables unless the caller says otherwise: covers 256 GiB of 64 KiB clusters.
pub const L2_CACHE_BYTES_DEFAULT: u64 = 32 << 20;

/// Memory for refcount blocks unless the caller says otherwise: half of it covers 128 GiB of 64 KiB
/// clusters.
pub const REFCOUNT_CACHE_BYTES_DEFAULT: u64 = 8 << 20;

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub(crate) read_only: bool,
    pub(crate) backing: Option<Arc<dyn Backing>>,
    pub(crate) l2_cache_bytes: u64,
    pub(crate) refcount_cache_bytes: u64,
    pub(crate) data_file: Option<Arc<dyn Storage>>,
    pub(crate) lazy_refcounts: Option<bool>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Writable, without a layer below, default caches.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            read_only: false,
            backing: None,
            l2_cache_bytes: L2_CACHE_BYTES_DEFAULT,
            refcount_cache_bytes: REFCOUNT_CACHE_BYTES_DEFAULT,
            data_file: None,
            lazy_refcounts: None,
        }
    }

    /// Refuses writes and never changes the file, not even a feature bit.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// What answers where the image owns nothing. The engine never follows the name in the
    /// header itself.
    #[must_use]
    pub fn backing(mut self, backing: Option<Arc<dyn Backing>>) -> Self {
        self.backing = backing;
        self
    }

    /// Memory for L2 tables, in bytes; at least 64 slices (16 when read-only) are kept. Slices that were changed are
    /// flushed when they fill a quarter of it, and stay until they are: they, and what requests under
    /// way hold, come on top.
    ///
    /// Not in the budget, because all of it is always needed: the L1 table (8 bytes for each L2
    /// table, 256 KiB for 16 TiB of 64 KiB clusters), the refcount table (8 bytes for each refcount
    /// block), and where the metadata of a writable image lies (about 32 bytes for each L2 table
    /// that does not lie beside another).
    #[must_use]
    pub const fn l2_cache_bytes(mut self, bytes: u64) -> Self {
        self.l2_cache_bytes = bytes;
        self
    }

    /// Memory for refcount blocks of a writable image, in bytes; at least four blocks (clusters) of
    /// each sort are kept. Half of it is for blocks that the disk has, and changed ones are written
    /// when they fill the other half, with lazy refcounts, too.
    #[must_use]
    pub const fn refcount_cache_bytes(mut self, bytes: u64) -> Self {
        self.refcount_cache_bytes = bytes;
        self
    }

    /// The external data file, for an image that keeps its guest data in one. The engine never
    /// follows the name in the header itself.
    #[must_use]
    pub fn data_file(mut self, data_file: Option<Arc<dyn Storage>>) -> Self {
        self.data_file = data_file;
        self
    }

    /// Whether refcounts reach the disk only when the image is closed, instead of what the header
    /// says. A crash in between leaves an image that must be repaired before it is written again.
    /// Version 2 cannot say so, and never postpones.
    #[must_use]
    pub const fn lazy_refcounts(mut self, lazy: bool) -> Self {
        self.lazy_refcounts = Some(lazy);
        self
    }
}

/// What a new image should be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Size of the virtual disk in bytes; a multiple of 512.
    pub virtual_size: u64,
    /// Version of the format.
    pub version: Version,
    /// Cluster size.
    pub cluster_bits: ClusterBits,
    /// Refcount width.
    pub refcount_order: RefcountOrder,
    /// How compressed clusters will be compressed.
    pub compression_type: CompressionType,
    /// Whether writers may postpone refcount updates.
    pub lazy_refcounts: bool,
    /// Whether L2 entries have a bitmap for 32 subclusters; needs version 3 and clusters of 16 KiB
    /// or more.
    pub extended_l2: bool,
    /// How much is prepared in advance. With a backing file only together with `extended_l2`:
    /// other entries could not say that a prepared cluster still shows the backing file.
    pub preallocation: Preallocation,
    /// Name and format of the backing file, stored as they are.
    pub backing: Option<BackingReference>,
    /// What the image shall remember of its backing file; nothing without one.
    pub base_pin: Option<BasePin>,
    /// What the header says about an external data file. Such images are made by
    /// [`create_with_data_file`](crate::create_with_data_file).
    pub data_file: Option<DataFileReference>,
}

/// What a header says about its backing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingReference {
    /// The name, as it shall stand in the header.
    pub name: String,
    /// The format, as it shall stand in the header.
    pub format: Option<String>,
}

/// What a header says about its external data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFileReference {
    /// The name, as it shall stand in the header.
    pub name: String,
    /// The file alone must stay a valid raw image of the disk: then every L2 entry exists from the
    /// beginning, and there can be no backing file.
    pub raw: bool,
}

impl CreateOptions {
    /// The defaults of the reference implementation: version 3, 64 KiB clusters, 16-bit
    /// refcounts, deflate.
    #[must_use]
    pub const fn new(virtual_size: u64) -> Self {
        Self {
            virtual_size,
            version: Version::V3,
            cluster_bits: ClusterBits::DEFAULT,
            refcount_order: RefcountOrder::DEFAULT,
            compression_type: CompressionType::Deflate,
            lazy_refcounts: false,
            extended_l2: false,
            preallocation: Preallocation::Off,
            backing: None,
            base_pin: None,
            data_file: None,
        }
    }
}
