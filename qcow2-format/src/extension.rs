//! Header extensions: the typed ones, the unknown ones, and the area that holds them.

use alloc::vec::Vec;

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base_pin::BasePin;
use crate::bitmap::{BitmapsExtension, RawBitmapsExtension};
use crate::error::{Error, Structure};
use crate::feature::FeatureNameTable;
use crate::geometry::Geometry;
use crate::limit::BACKING_FORMAT_BYTES_MAX;
use crate::luks::{LuksPointer, RawLuksPointer};

/// Magic of the end marker.
pub(crate) const END: u32 = 0;
/// Magic of the backing format name.
pub(crate) const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Magic of the feature name table.
pub(crate) const FEATURE_NAMES: u32 = 0x6803_f857;
/// Magic of the bitmaps extension.
pub(crate) const BITMAPS: u32 = 0x2385_2875;
/// Magic of the LUKS pointer.
pub(crate) const LUKS: u32 = 0x0537_be77;
/// Magic of the external data file name.
pub(crate) const DATA_FILE_NAME: u32 = 0x4441_5441;
/// Magic of the base pin, "qimg": ours, and in no specification.
pub(crate) const BASE_PIN: u32 = 0x7169_6d67;

/// Head of a header extension as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawExtensionHead {
    /// What the extension is; 0 ends the list.
    pub magic: U32,
    /// Bytes of data that follow, without the padding to a multiple of 8.
    pub length: U32,
}
const_assert_eq!(size_of::<RawExtensionHead>(), 8);
const_assert_eq!(align_of::<RawExtensionHead>(), 1);
const_assert_eq!(core::mem::offset_of!(RawExtensionHead, length), 4);
assert_impl_all!(RawExtensionHead: FromBytes, IntoBytes, Unaligned);

/// A header extension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Extension {
    /// Format name of the backing file, at most 15 bytes.
    BackingFormat(Vec<u8>),
    /// Name of the external data file.
    DataFileName(Vec<u8>),
    /// Where the LUKS header area lies.
    Luks(LuksPointer),
    /// Names of feature bits.
    FeatureNames(FeatureNameTable),
    /// Where the bitmap directory lies.
    Bitmaps(BitmapsExtension),
    /// What the overlay remembers of its backing file.
    BasePin(BasePin),
    /// An extension nobody here knows, to be preserved.
    Unknown {
        /// What the extension is.
        magic: u32,
        /// Its data.
        data: Vec<u8>,
    },
}

impl Extension {
    /// What the extension is, as a number.
    #[must_use]
    pub const fn magic(&self) -> u32 {
        match self {
            Self::BackingFormat(_) => BACKING_FORMAT,
            Self::DataFileName(_) => DATA_FILE_NAME,
            Self::Luks(_) => LUKS,
            Self::FeatureNames(_) => FEATURE_NAMES,
            Self::Bitmaps(_) => BITMAPS,
            Self::BasePin(_) => BASE_PIN,
            Self::Unknown { magic, .. } => *magic,
        }
    }

    /// The data as it lies on disk, without padding.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        match self {
            Self::BackingFormat(name) | Self::DataFileName(name) => name.clone(),
            Self::Luks(pointer) => pointer.to_raw().as_bytes().to_vec(),
            Self::FeatureNames(table) => table.as_bytes().to_vec(),
            Self::Bitmaps(bitmaps) => bitmaps.to_raw().as_bytes().to_vec(),
            Self::BasePin(pin) => pin.to_raw().as_bytes().to_vec(),
            Self::Unknown { data, .. } => data.clone(),
        }
    }
}

/// An extension as it was found: with the bytes that padded it, which are not always zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Placed {
    pub(crate) extension: Extension,
    pub(crate) padding: Vec<u8>,
}

impl Placed {
    /// With zero padding to a multiple of 8.
    pub(crate) fn canonical(extension: Extension) -> Self {
        let len = extension.data().len();
        let padding = len.next_multiple_of(8).saturating_sub(len);
        Self { extension, padding: alloc::vec![0; padding] }
    }

    /// Head, data and padding, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let head = size_of::<RawExtensionHead>();
        head.saturating_add(self.extension.data().len()).saturating_add(self.padding.len())
    }

    /// Appends head, data and padding.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let data = self.extension.data();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let magic = U32::new(self.extension.magic());
        out.extend_from_slice(RawExtensionHead { magic, length: U32::new(length) }.as_bytes());
        out.extend_from_slice(&data);
        out.extend_from_slice(&self.padding);
    }
}

/// One extension in the bytes of cluster 0, not yet understood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawExtension<'a> {
    pub(crate) magic: u32,
    /// Image offset of the head.
    pub(crate) at: u64,
    pub(crate) data: &'a [u8],
    pub(crate) padding: &'a [u8],
}

/// Walks the extensions in an area of cluster 0.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'a> {
    area: &'a [u8],
    /// Image offset of the area's first byte.
    start: usize,
    /// Bytes of the area already behind.
    done: usize,
    /// Length field of the end marker, once it has been seen.
    end_marker: Option<u32>,
}

impl<'a> Walk<'a> {
    /// Over `cluster[start..end]`; an area that ends before it starts is empty.
    pub(crate) fn new(cluster: &'a [u8], start: usize, end: usize) -> Self {
        let area = cluster.get(start..end).unwrap_or(&[]);
        Self { area, start, done: 0, end_marker: None }
    }

    /// Image offset of the first byte not yet behind.
    pub(crate) const fn position(&self) -> usize {
        self.start.saturating_add(self.done)
    }

    /// Length field of the end marker; `None` while there was none.
    pub(crate) const fn end_marker(&self) -> Option<u32> {
        self.end_marker
    }

    /// The next extension; `None` at the end marker or the end of the area.
    pub(crate) fn step(&mut self) -> Result<Option<RawExtension<'a>>, Error> {
        if self.end_marker.is_some() || self.done >= self.area.len() {
            return Ok(None);
        }
        let at = self.position() as u64;
        let rest = self.area.get(self.done..).unwrap_or(&[]);
        let Ok((head, after)) = RawExtensionHead::read_from_prefix(rest) else {
            let allowed = "a head of 8 bytes or the end of the area";
            let found = rest.len() as u64;
            return Err(Error::cut_off(Structure::Header, "extension", at, found, allowed));
        };
        if head.magic.get() == END {
            self.end_marker = Some(head.length.get());
            self.done = self.done.saturating_add(size_of::<RawExtensionHead>());
            return Ok(None);
        }
        let length = head.length.get() as usize;
        let Some((data, after)) = after.split_at_checked(length) else {
            let structure = Structure::Extension(head.magic.get());
            let allowed = "an end before the backing file name and inside cluster 0";
            let (found, at) = (u64::from(head.length.get()), at.checked_add(4));
            return Err(Error::number(structure, "length", at, found, allowed));
        };
        // The padding of the last one may be cut short by the backing file name.
        let wanted = length.next_multiple_of(8).saturating_sub(length);
        let padding = after.get(..wanted.min(after.len())).unwrap_or(&[]);
        let behind = after.len().saturating_sub(padding.len());
        self.done = self.area.len().saturating_sub(behind);
        Ok(Some(RawExtension { magic: head.magic.get(), at, data, padding }))
    }
}

/// What the meaning of an extension depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) geometry: Geometry,
    pub(crate) is_luks: bool,
    pub(crate) bitmaps_trusted: bool,
}

impl RawExtension<'_> {
    /// Understands the extension.
    pub(crate) fn decode(self, context: Context) -> Result<Placed, Error> {
        let extension = match self.magic {
            BACKING_FORMAT => self.backing_format()?,
            DATA_FILE_NAME => Extension::DataFileName(self.data.to_vec()),
            FEATURE_NAMES => {
                Extension::FeatureNames(FeatureNameTable::from_bytes(self.data.to_vec()))
            }
            LUKS => self.luks(context)?,
            BITMAPS => self.bitmaps(context)?,
            BASE_PIN => self.base_pin(),
            magic => Extension::Unknown { magic, data: self.data.to_vec() },
        };
        Ok(Placed { extension, padding: self.padding.to_vec() })
    }

    /// The error for a length that this kind of extension cannot have.
    fn length_error(&self, allowed: &'static str) -> Error {
        let structure = Structure::Extension(self.magic);
        Error::number(structure, "length", self.at.checked_add(4), self.data.len() as u64, allowed)
    }

    fn backing_format(&self) -> Result<Extension, Error> {
        if self.data.len() > BACKING_FORMAT_BYTES_MAX {
            return Err(self.length_error("0..=15"));
        }
        Ok(Extension::BackingFormat(self.data.to_vec()))
    }

    fn luks(&self, context: Context) -> Result<Extension, Error> {
        let structure = Structure::Extension(self.magic);
        if !context.is_luks {
            let (field, allowed) = ("magic", "this extension only with crypt_method 2");
            let found = u64::from(self.magic);
            return Err(Error::hex(structure, field, Some(self.at), found, allowed));
        }
        let raw =
            RawLuksPointer::read_from_bytes(self.data).map_err(|_| self.length_error("16"))?;
        let pointer = LuksPointer::from_raw(raw);
        if !context.geometry.is_cluster_aligned(pointer.offset.get()) {
            let (at, allowed) = (self.at.checked_add(8), "a multiple of the cluster size");
            return Err(Error::hex(structure, "offset", at, pointer.offset.get(), allowed));
        }
        Ok(Extension::Luks(pointer))
    }

    /// A record of another version is kept as it is.
    fn base_pin(&self) -> Extension {
        let unknown = || Extension::Unknown { magic: self.magic, data: self.data.to_vec() };
        BasePin::from_bytes(self.data).map_or_else(unknown, Extension::BasePin)
    }

    fn bitmaps(&self, context: Context) -> Result<Extension, Error> {
        let raw =
            RawBitmapsExtension::read_from_bytes(self.data).map_err(|_| self.length_error("24"))?;
        let bitmaps = BitmapsExtension::from_raw(raw);
        if context.bitmaps_trusted {
            bitmaps.validate(context.geometry, self.at.saturating_add(8))?;
        }
        Ok(Extension::Bitmaps(bitmaps))
    }
}
