//! The image header: everything that cluster 0 says, checked.

use alloc::vec::Vec;

use crate::base_pin::BasePin;
use crate::bitmap::BitmapsExtension;
use crate::error::{Error, Structure};
use crate::extension::{Extension, Placed};
use crate::feature::{Features, IncompatibleFeatures};
use crate::geometry::{ClusterBits, Geometry};
use crate::limit::SECTOR_BYTES;
use crate::luks::LuksPointer;
use crate::unit::HostOffset;

mod amend;
mod areas;
mod builder;
mod decode;
mod encode;
mod raw;
mod rewrite;
mod switch;
mod update;

pub use areas::Area;
pub use builder::HeaderBuilder;
pub use raw::{MAGIC, RawHeaderV2, RawHeaderV3Tail};
pub use switch::{HeaderSwitch, SwitchStage};
pub use update::FieldUpdate;

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Version 2, `compat=0.10`: no feature bits, 16-bit refcounts, no zero clusters.
    V2,
    /// Version 3, `compat=1.1`.
    V3,
}

impl Version {
    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// How guest data is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CryptMethod {
    /// Not at all.
    None,
    /// AES-CBC by the guest sector, the legacy method.
    Aes,
    /// LUKS; the key slots lie where the LUKS extension points.
    Luks,
}

impl CryptMethod {
    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Aes => 1,
            Self::Luks => 2,
        }
    }
}

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressionType {
    /// Raw deflate.
    Deflate,
    /// Zstandard.
    Zstd,
}

impl CompressionType {
    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Deflate => 0,
            Self::Zstd => 1,
        }
    }
}

/// A table of 8-byte entries that lies contiguously in the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TablePointer {
    /// Host offset of the first entry.
    pub offset: HostOffset,
    /// Number of entries (L1 table), of clusters (refcount table) or of snapshots.
    pub count: u32,
}

/// The header of an image, checked by itself; nothing is compared with the file's length.
///
/// Between [`Header::decode`] and [`Header::encode`] nothing is lost: unknown extensions and
/// fields, padding, the position of the backing file name and stray bytes come back as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    version: Version,
    geometry: Geometry,
    /// As stored; the getter drops what does not fill a sector.
    size: u64,
    crypt_method: CryptMethod,
    l1_table: TablePointer,
    refcount_table: TablePointer,
    snapshot_table: TablePointer,
    features: Features,
    compression_type: CompressionType,
    /// Bytes from 105 up to `header_length`: padding, then fields nobody here knows.
    beyond_compression_type: Vec<u8>,
    header_length: u32,
    backing: Backing,
    extensions: Vec<Placed>,
    /// Length field of the end marker; `None` when the area ends without one.
    end_marker: Option<u32>,
    /// What follows the extensions in cluster 0, backing file name included, without the zeros
    /// at the end.
    rest: Vec<u8>,
}

/// Where the backing file name lies and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Backing {
    /// 0 for none.
    offset: u64,
    /// As stored; means nothing when the offset is 0.
    size: u32,
    /// Up to the first NUL; [`Header::rest`] holds all of it.
    name: Vec<u8>,
}

impl Header {
    /// Learns the cluster size from the first 24 bytes, and with it how much
    /// [`Header::decode`] needs: one cluster, or the whole file if that is shorter.
    ///
    /// # Errors
    /// Not a qcow2 image, a version or cluster size nobody knows, or fewer than 24 bytes.
    pub fn peek_cluster_bits(bytes: &[u8]) -> Result<ClusterBits, Error> {
        decode::peek_cluster_bits(bytes)
    }

    /// Decodes a header from the first bytes of the file, where they are enough: all that the format
    /// knows of ends with the name of a backing file. `None` where more of cluster 0 must be seen, or
    /// where [`Header::decode`] has something to say.
    ///
    /// What lies behind `bytes` is not kept: not for a header that is written back.
    #[must_use]
    pub fn decode_start(bytes: &[u8]) -> Option<Self> {
        let (offset, size) = (bytes.get(8..16)?, bytes.get(16..20)?);
        let offset = u64::from_be_bytes(offset.try_into().ok()?);
        let size = u32::from_be_bytes(size.try_into().ok()?);
        let end = offset.checked_add(u64::from(size)).filter(|_| offset != 0)?;
        if end > bytes.len() as u64 {
            return None;
        }
        Self::decode(bytes).ok()
    }

    /// Decodes cluster 0.
    ///
    /// `bytes` is the start of the file, up to one cluster of it; bytes past the end of a
    /// shorter file read as zeros, bytes past cluster 0 are not looked at.
    ///
    /// Features that are known are decoded, whether or not anybody can serve them.
    ///
    /// # Errors
    /// The first thing that the format does not allow, in the order in which the reference
    /// implementation looks.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        decode::decode(bytes, decode::Purpose::Use)
    }

    /// Decodes cluster 0 of an image that is about to be checked or repaired: tolerates an
    /// empty refcount table, which a repair can rebuild.
    ///
    /// # Errors
    /// As for [`Header::decode`].
    pub fn decode_for_check(bytes: &[u8]) -> Result<Self, Error> {
        decode::decode(bytes, decode::Purpose::Check)
    }

    /// All of cluster 0: what [`Header::decode`] was given, padded with zeros to a cluster.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode::encode(self)
    }

    /// Version of the format.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Cluster size, refcount width, shape of L2 entries.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Size of the virtual disk in bytes, a multiple of 512: a stored remainder is dropped.
    #[must_use]
    pub const fn virtual_size(&self) -> u64 {
        self.size & !(SECTOR_BYTES.saturating_sub(1))
    }

    /// How guest data is encrypted.
    #[must_use]
    pub const fn crypt_method(&self) -> CryptMethod {
        self.crypt_method
    }

    /// The active L1 table; the count is of entries.
    #[must_use]
    pub const fn l1_table(&self) -> TablePointer {
        self.l1_table
    }

    /// Host offset of the active L1 table.
    #[must_use]
    pub const fn l1_table_offset(&self) -> HostOffset {
        self.l1_table.offset
    }

    /// Entries of the active L1 table; may be more than the virtual size needs.
    #[must_use]
    pub const fn l1_entry_count(&self) -> u32 {
        self.l1_table.count
    }

    /// The refcount table; the count is of clusters.
    #[must_use]
    pub const fn refcount_table(&self) -> TablePointer {
        self.refcount_table
    }

    /// Host offset of the refcount table.
    #[must_use]
    pub const fn refcount_table_offset(&self) -> HostOffset {
        self.refcount_table.offset
    }

    /// Clusters of the refcount table; 0 only after [`Header::decode_for_check`].
    #[must_use]
    pub const fn refcount_table_clusters(&self) -> u32 {
        self.refcount_table.count
    }

    /// The snapshot table; the count is of snapshots.
    #[must_use]
    pub const fn snapshot_table(&self) -> TablePointer {
        self.snapshot_table
    }

    /// Number of internal snapshots.
    #[must_use]
    pub const fn snapshot_count(&self) -> u32 {
        self.snapshot_table.count
    }

    /// Host offset of the snapshot table; means nothing without snapshots.
    #[must_use]
    pub const fn snapshot_table_offset(&self) -> HostOffset {
        self.snapshot_table.offset
    }

    /// The feature words; all empty in version 2.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Whether every bit of `feature` is set in the incompatible word.
    #[must_use]
    pub const fn requires(&self, feature: IncompatibleFeatures) -> bool {
        self.features.incompatible.contains(feature)
    }

    /// Bytes of the header, where the extensions start: 72 in version 2.
    #[must_use]
    pub const fn header_length(&self) -> u32 {
        self.header_length
    }

    /// How compressed clusters are compressed.
    #[must_use]
    pub const fn compression_type(&self) -> CompressionType {
        self.compression_type
    }

    /// Header fields that nobody here knows: bytes 112 up to the header length.
    #[must_use]
    pub fn unknown_fields(&self) -> &[u8] {
        let padding = raw::V3_BYTES.saturating_sub(raw::COMPRESSION_TYPE_OFFSET.saturating_add(1));
        self.beyond_compression_type.get(padding..).unwrap_or(&[])
    }

    /// Name of the backing file as stored; `None` when there is none.
    #[must_use]
    pub fn backing_name(&self) -> Option<&[u8]> {
        Some(self.backing.name.as_slice()).filter(|name| !name.is_empty())
    }

    /// Format name of the backing file as stored. An image may carry one without a backing file.
    #[must_use]
    pub fn backing_format(&self) -> Option<&[u8]> {
        self.last(|extension| match extension {
            Extension::BackingFormat(name) => Some(decode::until_nul(name)),
            _ => None,
        })
    }

    /// Name of the external data file as stored.
    #[must_use]
    pub fn data_file_name(&self) -> Option<&[u8]> {
        self.last(|extension| match extension {
            Extension::DataFileName(name) => Some(decode::until_nul(name)),
            _ => None,
        })
    }

    /// The bitmaps extension. It means something only while the autoclear bit
    /// [`AutoclearFeatures::BITMAPS`](crate::AutoclearFeatures::BITMAPS) is set.
    #[must_use]
    pub fn bitmaps(&self) -> Option<BitmapsExtension> {
        self.last(|extension| match extension {
            Extension::Bitmaps(bitmaps) => Some(*bitmaps),
            _ => None,
        })
    }

    /// What the overlay remembers of a backing file. It is about the one that the header names only
    /// if [`BasePin::is_about`] says so.
    #[must_use]
    pub fn base_pin(&self) -> Option<BasePin> {
        self.last(|extension| match extension {
            Extension::BasePin(pin) => Some(*pin),
            _ => None,
        })
    }

    /// Where the LUKS header area lies; always there with [`CryptMethod::Luks`].
    #[must_use]
    pub fn luks(&self) -> Option<LuksPointer> {
        self.last(|extension| match extension {
            Extension::Luks(pointer) => Some(*pointer),
            _ => None,
        })
    }

    /// All extensions, in file order.
    pub fn extensions(&self) -> impl DoubleEndedIterator<Item = &Extension> {
        self.extensions.iter().map(|placed| &placed.extension)
    }

    /// Of repeated extensions the last counts, as in the reference implementation.
    fn last<'a, T: 'a>(&'a self, pick: impl Fn(&'a Extension) -> Option<T>) -> Option<T> {
        self.extensions().rev().find_map(pick)
    }

    /// The same header with other feature words.
    ///
    /// # Errors
    /// A feature bit in a version 2 header, or bits that contradict the compression type or the
    /// shape of L2 entries: those are decided when an image is created.
    pub fn with_features(mut self, features: Features) -> Result<Self, Error> {
        let fixed = IncompatibleFeatures::COMPRESSION_TYPE.with(IncompatibleFeatures::EXTENDED_L2);
        let changed = features.incompatible.bits() ^ self.features.incompatible.bits();
        if changed & fixed.bits() != 0 {
            let (field, allowed) = ("incompatible_features", "bits 3 and 4 as they are");
            let found = features.incompatible.bits();
            return Err(Error::hex(Structure::Header, field, Some(72), found, allowed));
        }
        if self.version == Version::V2 && features != Features::default() {
            let (field, allowed) = ("version", "3 with any feature bit");
            return Err(Error::number(Structure::Header, field, Some(4), 2, allowed));
        }
        self.features = features;
        Ok(self)
    }

    /// The same header with another active L1 table.
    ///
    /// # Errors
    /// The table is too large, unaligned, or too small for the virtual size.
    pub fn with_l1_table(mut self, table: TablePointer) -> Result<Self, Error> {
        decode::validate_l1_table(self.geometry, table, self.size)?;
        self.l1_table = table;
        Ok(self)
    }

    /// The same header with another refcount table.
    ///
    /// # Errors
    /// The table is empty, too large or unaligned.
    pub fn with_refcount_table(mut self, table: TablePointer) -> Result<Self, Error> {
        decode::validate_refcount_table(self.geometry, table, decode::Purpose::Use)?;
        self.refcount_table = table;
        Ok(self)
    }

    /// The same header with another snapshot table.
    ///
    /// # Errors
    /// Too many snapshots, or the table is unaligned.
    pub fn with_snapshot_table(mut self, table: TablePointer) -> Result<Self, Error> {
        decode::validate_snapshot_table(self.geometry, table)?;
        self.snapshot_table = table;
        Ok(self)
    }

    /// The same header with another virtual size in bytes.
    ///
    /// # Errors
    /// The active L1 table is too small for it.
    pub fn with_virtual_size(mut self, size: u64) -> Result<Self, Error> {
        decode::validate_l1_table(self.geometry, self.l1_table, size)?;
        self.size = size;
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
