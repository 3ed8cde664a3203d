//! The bitmap directory: one entry of variable length per bitmap.

use alloc::vec::Vec;

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Structure};
use crate::geometry::Geometry;
use crate::limit;
use crate::unit::HostOffset;

/// Head of a directory entry as it lies on disk; extra data, name and padding to 8 follow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawBitmapDirectoryEntry {
    /// Host offset of the bitmap table.
    pub table_offset: U64,
    /// Entries of the bitmap table.
    pub table_size: U32,
    /// Bit 0 in_use, bit 1 auto, bit 2 extra_data_compatible.
    pub flags: U32,
    /// 1: dirty tracking bitmap.
    pub kind: u8,
    /// Power of two of the guest bytes per bit.
    pub granularity_bits: u8,
    /// Bytes of the name.
    pub name_size: U16,
    /// Bytes of extra data.
    pub extra_data_size: U32,
}
const_assert_eq!(size_of::<RawBitmapDirectoryEntry>(), 24);
const_assert_eq!(align_of::<RawBitmapDirectoryEntry>(), 1);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, table_size), 8);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, flags), 12);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, kind), 16);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, granularity_bits), 17);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, name_size), 18);
const_assert_eq!(core::mem::offset_of!(RawBitmapDirectoryEntry, extra_data_size), 20);
assert_impl_all!(RawBitmapDirectoryEntry: FromBytes, IntoBytes, Unaligned);

/// Flags of a directory entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BitmapFlags(u32);

impl BitmapFlags {
    /// Not saved cleanly: the bits mean nothing.
    pub const IN_USE: Self = Self(1);
    /// Recording starts when the image is opened.
    pub const AUTO: Self = Self(2);
    const KNOWN: u32 = 3;

    /// Wraps the word as it stands on disk.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word as it stands on disk.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every bit of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The same word with the bits of `other` set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same word with the bits of `other` cleared.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One bitmap of the directory, checked against the limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BitmapDirectoryEntry {
    table_offset: HostOffset,
    table_entry_count: u32,
    flags: BitmapFlags,
    granularity_bits: u8,
    name: Vec<u8>,
    padding: Vec<u8>,
}

const DIRECTORY: Structure = Structure::BitmapDirectory;
const HEAD_BYTES: usize = size_of::<RawBitmapDirectoryEntry>();

impl BitmapDirectoryEntry {
    /// Describes a dirty tracking bitmap.
    ///
    /// # Errors
    /// A number is outside the format's limits.
    pub fn new(
        geometry: Geometry,
        table_offset: HostOffset,
        table_entry_count: u32,
        flags: BitmapFlags,
        granularity_bits: u8,
        name: &[u8],
    ) -> Result<Self, Error> {
        let raw = RawBitmapDirectoryEntry {
            table_offset: U64::new(table_offset.get()),
            table_size: U32::new(table_entry_count),
            flags: U32::new(flags.0),
            kind: 1,
            granularity_bits,
            name_size: U16::new(u16::try_from(name.len()).unwrap_or(u16::MAX)),
            extra_data_size: U32::ZERO,
        };
        validate_entry(geometry, &raw, 0)?;
        let padding = alloc::vec![0; padding_bytes(name.len())];
        Ok(Self {
            table_offset,
            table_entry_count,
            flags,
            granularity_bits,
            name: name.to_vec(),
            padding,
        })
    }

    /// Host offset of the bitmap table.
    #[must_use]
    pub const fn table_offset(&self) -> HostOffset {
        self.table_offset
    }

    /// Entries of the bitmap table: clusters of bitmap data.
    #[must_use]
    pub const fn table_entry_count(&self) -> u32 {
        self.table_entry_count
    }

    /// Flags.
    #[must_use]
    pub const fn flags(&self) -> BitmapFlags {
        self.flags
    }

    /// Power of two of the guest bytes per bit: 9..=31.
    #[must_use]
    pub const fn granularity_bits(&self) -> u8 {
        self.granularity_bits
    }

    /// Name, any bytes, not empty.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The same entry with other flags.
    #[must_use]
    pub fn with_flags(mut self, flags: BitmapFlags) -> Self {
        self.flags = flags;
        self
    }

    /// Appends the entry as it lies on disk, padding included.
    pub fn encode_into(&self, directory: &mut Vec<u8>) {
        let raw = RawBitmapDirectoryEntry {
            table_offset: U64::new(self.table_offset.get()),
            table_size: U32::new(self.table_entry_count),
            flags: U32::new(self.flags.0),
            kind: 1,
            granularity_bits: self.granularity_bits,
            name_size: U16::new(u16::try_from(self.name.len()).unwrap_or(u16::MAX)),
            extra_data_size: U32::ZERO,
        };
        directory.extend_from_slice(raw.as_bytes());
        directory.extend_from_slice(&self.name);
        directory.extend_from_slice(&self.padding);
    }
}

/// Bytes that bring an entry with a name of `name_bytes` to a multiple of 8.
const fn padding_bytes(name_bytes: usize) -> usize {
    let end = HEAD_BYTES.saturating_add(name_bytes);
    end.next_multiple_of(8).saturating_sub(end)
}

/// Decodes a whole directory of `count` bitmaps that fills `bytes` exactly.
///
/// Offsets in errors are relative to the start of the directory.
///
/// # Errors
/// An entry is cut off, outside the limits, or carries extra data or a flag nobody here knows;
/// or the entries do not fill the directory.
pub fn decode_bitmap_directory(
    geometry: Geometry,
    bytes: &[u8],
    count: u32,
) -> Result<Vec<BitmapDirectoryEntry>, Error> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len().saturating_sub(rest.len()) as u64;
        let (entry, after) = decode_entry(geometry, rest, at)?;
        entries.push(entry);
        rest = after;
        if entries.len() > count as usize {
            break;
        }
    }
    if entries.len() != count as usize {
        let found = entries.len() as u64;
        let allowed = "as many entries as the header extension says";
        return Err(Error::number(DIRECTORY, "entry count", None, found, allowed));
    }
    Ok(entries)
}

fn decode_entry(
    geometry: Geometry,
    bytes: &[u8],
    at: u64,
) -> Result<(BitmapDirectoryEntry, &[u8]), Error> {
    let cut = |allowed| Error::cut_off(DIRECTORY, "entry", at, bytes.len() as u64, allowed);
    let (raw, rest) =
        RawBitmapDirectoryEntry::read_from_prefix(bytes).map_err(|_| cut("a head of 24 bytes"))?;
    validate_entry(geometry, &raw, at)?;
    let name_bytes = usize::from(raw.name_size.get());
    let (name, rest) = rest.split_at_checked(name_bytes).ok_or_else(|| cut("the whole name"))?;
    let (padding, rest) = rest
        .split_at_checked(padding_bytes(name_bytes))
        .ok_or_else(|| cut("padding to a multiple of 8"))?;
    let entry = BitmapDirectoryEntry {
        table_offset: HostOffset::new(raw.table_offset.get()),
        table_entry_count: raw.table_size.get(),
        flags: BitmapFlags(raw.flags.get()),
        granularity_bits: raw.granularity_bits,
        name: name.to_vec(),
        padding: padding.to_vec(),
    };
    Ok((entry, rest))
}

fn validate_entry(geometry: Geometry, raw: &RawBitmapDirectoryEntry, at: u64) -> Result<(), Error> {
    let number = |field, offset, found: u64, allowed| {
        Err(Error::number(DIRECTORY, field, at.checked_add(offset), found, allowed))
    };
    let extra = raw.extra_data_size.get();
    if extra != 0 {
        return number("extra_data_size", 20, u64::from(extra), "0");
    }
    let offset = raw.table_offset.get();
    if offset == 0 || !geometry.is_cluster_aligned(offset) {
        let allowed = "a multiple of the cluster size, not 0";
        return Err(Error::hex(DIRECTORY, "bitmap_table_offset", Some(at), offset, allowed));
    }
    let entries = u64::from(raw.table_size.get());
    if entries == 0
        || entries.saturating_mul(geometry.cluster_bytes()) > limit::BITMAP_DATA_BYTES_MAX
    {
        return number("bitmap_table_size", 8, entries, "1 to 512 MiB of bitmap data");
    }
    let flags = raw.flags.get();
    if flags & !BitmapFlags::KNOWN != 0 {
        let at = at.checked_add(12);
        return Err(Error::hex(DIRECTORY, "flags", at, u64::from(flags), "bits 0 and 1"));
    }
    if raw.kind != 1 {
        return number("type", 16, u64::from(raw.kind), "1");
    }
    if !(9..=31).contains(&raw.granularity_bits) {
        return number("granularity_bits", 17, u64::from(raw.granularity_bits), "9..=31");
    }
    let name = raw.name_size.get();
    if name == 0 || name > limit::BITMAP_NAME_BYTES_MAX {
        return number("name_size", 18, u64::from(name), "1..=1023");
    }
    Ok(())
}
