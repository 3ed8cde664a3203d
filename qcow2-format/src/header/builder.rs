//! A header for a new image.

use alloc::vec::Vec;

use super::raw::{V2_BYTES, V3_BYTES};
use super::{Backing, CompressionType, CryptMethod, Header, TablePointer, Version, decode};
use crate::base_pin::BasePin;
use crate::error::{Error, Structure};
use crate::extension::{Extension, Placed};
use crate::feature::{AutoclearFeatures, CompatibleFeatures, Features, IncompatibleFeatures};
use crate::geometry::{Geometry, L2Layout, RefcountOrder};
use crate::limit::SECTOR_BYTES;
use crate::luks::LuksPointer;
use crate::unit::HostOffset;

/// Collects what the header of a new image says; [`HeaderBuilder::build`] checks it.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    header: Header,
    backing_format: Option<Vec<u8>>,
    base_pin: Option<BasePin>,
}

const NO_TABLE: TablePointer = TablePointer { offset: HostOffset::ZERO, count: 0 };

impl HeaderBuilder {
    /// Version 3, deflate, no tables yet, nothing optional; `virtual_size` in bytes, a multiple
    /// of 512.
    #[must_use]
    pub fn new(geometry: Geometry, virtual_size: u64) -> Self {
        let mut features = Features::default();
        if geometry.l2_layout() == L2Layout::Extended {
            features.incompatible = IncompatibleFeatures::EXTENDED_L2;
        }
        let header = Header {
            version: Version::V3,
            geometry,
            size: virtual_size,
            crypt_method: CryptMethod::None,
            l1_table: NO_TABLE,
            refcount_table: NO_TABLE,
            snapshot_table: NO_TABLE,
            features,
            compression_type: CompressionType::Deflate,
            beyond_compression_type: Vec::new(),
            header_length: V3_BYTES as u32,
            backing: Backing::default(),
            extensions: Vec::new(),
            end_marker: Some(0),
            rest: Vec::new(),
        };
        Self { header, backing_format: None, base_pin: None }
    }

    /// Version of the format.
    #[must_use]
    pub const fn version(mut self, version: Version) -> Self {
        self.header.version = version;
        self
    }

    /// Where the L1 table will lie.
    #[must_use]
    pub const fn l1_table(mut self, table: TablePointer) -> Self {
        self.header.l1_table = table;
        self
    }

    /// Where the refcount table will lie.
    #[must_use]
    pub const fn refcount_table(mut self, table: TablePointer) -> Self {
        self.header.refcount_table = table;
        self
    }

    /// How compressed clusters will be compressed.
    #[must_use]
    pub const fn compression_type(mut self, compression_type: CompressionType) -> Self {
        self.header.compression_type = compression_type;
        let bit = IncompatibleFeatures::COMPRESSION_TYPE;
        let incompatible = self.header.features.incompatible;
        self.header.features.incompatible = match compression_type {
            CompressionType::Deflate => incompatible.without(bit),
            CompressionType::Zstd => incompatible.with(bit),
        };
        self
    }

    /// Whether refcount updates may be postponed.
    #[must_use]
    pub const fn lazy_refcounts(mut self, lazy: bool) -> Self {
        let (word, bit) = (self.header.features.compatible, CompatibleFeatures::LAZY_REFCOUNTS);
        self.header.features.compatible = if lazy { word.with(bit) } else { word.without(bit) };
        self
    }

    /// The backing file, by the bytes of its name and of its format's name.
    #[must_use]
    pub fn backing(mut self, name: &[u8], format: Option<&[u8]>) -> Self {
        self.header.backing.name = name.to_vec();
        self.backing_format = format.map(<[u8]>::to_vec);
        self
    }

    /// What is remembered of the backing file; nothing without one.
    #[must_use]
    pub const fn base_pin(mut self, pin: BasePin) -> Self {
        self.base_pin = Some(pin);
        self
    }

    /// An external data file; `name` is stored if given, `raw` says that the file alone is a
    /// valid raw image.
    #[must_use]
    pub fn data_file(mut self, name: Option<&[u8]>, raw: bool) -> Self {
        let features = &mut self.header.features;
        features.incompatible =
            features.incompatible.with(IncompatibleFeatures::EXTERNAL_DATA_FILE);
        if raw {
            features.autoclear = features.autoclear.with(AutoclearFeatures::RAW_EXTERNAL_DATA);
        }
        let name = name.map(|name| Extension::DataFileName(name.to_vec()));
        self.header.extensions.extend(name.map(Placed::canonical));
        self
    }

    /// Encryption by LUKS, with its header area at `pointer`.
    #[must_use]
    pub fn luks(mut self, pointer: LuksPointer) -> Self {
        self.header.crypt_method = CryptMethod::Luks;
        self.header.extensions.push(Placed::canonical(Extension::Luks(pointer)));
        self
    }

    /// The header, in canonical form.
    ///
    /// # Errors
    /// A table missing, misplaced or too small; a virtual size that is not a multiple of 512; a
    /// feature that version 2 does not have; names that are too long.
    pub fn build(mut self) -> Result<Header, Error> {
        let header = &mut self.header;
        if !header.size.is_multiple_of(SECTOR_BYTES) {
            let (found, allowed) = (header.size, "a multiple of 512");
            return Err(Error::number(Structure::Header, "size", Some(24), found, allowed));
        }
        if header.version == Version::V2 {
            validate_version_2(header)?;
            header.header_length = V2_BYTES as u32;
        }
        decode::validate_refcount_table(
            header.geometry,
            header.refcount_table,
            decode::Purpose::Use,
        )?;
        decode::validate_l1_table(header.geometry, header.l1_table, header.size)?;
        let name = core::mem::take(&mut header.backing.name);
        let name = Some(name.as_slice()).filter(|name| !name.is_empty());
        let format = self.backing_format.as_deref();
        self.header.with_pinned_backing(name, format, self.base_pin.as_ref())
    }
}

fn validate_version_2(header: &Header) -> Result<(), Error> {
    let order = header.geometry.refcount_order();
    if header.features != Features::default() || order != RefcountOrder::DEFAULT {
        let allowed = "3 with any feature bit or a refcount width other than 16";
        return Err(Error::number(Structure::Header, "version", Some(4), 2, allowed));
    }
    Ok(())
}
