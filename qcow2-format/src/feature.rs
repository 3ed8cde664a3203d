//! Feature bits of a version 3 header, and the table that names them for older software.

use alloc::vec::Vec;
use core::fmt;

use static_assertions::{assert_impl_all, const_assert_eq};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bits that software must know to open the image at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IncompatibleFeatures(u64);

/// Bits that software may ignore and must preserve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CompatibleFeatures(u64);

/// Bits that software must clear before its first write if it does not know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AutoclearFeatures(u64);

macro_rules! feature_word {
    ($name:ident: $($(#[$doc:meta])* $bit:ident = $index:literal),+ $(,)?) => {
        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);
            $($(#[$doc])* pub const $bit: Self = Self(1 << $index);)+
            /// Every bit that has a name here.
            pub const KNOWN: Self = Self(0 $(| Self::$bit.0)+);

            /// Wraps the word as it stands on disk (after byte order).
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// The word as it stands on disk.
            #[must_use]
            pub const fn bits(self) -> u64 {
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

            /// The bits set here that have no name here.
            #[must_use]
            pub const fn unknown(self) -> Self {
                self.without(Self::KNOWN)
            }

            /// Whether no bit is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }
    };
}

feature_word! { IncompatibleFeatures:
    /// Refcounts on disk may be too low: rebuild or repair before trusting them.
    DIRTY = 0,
    /// A structure was found to be corrupt: no writes before a repair.
    CORRUPT = 1,
    /// Guest data lives in an external data file.
    EXTERNAL_DATA_FILE = 2,
    /// Compressed clusters are not deflate; the header says what they are.
    COMPRESSION_TYPE = 3,
    /// L2 entries are 16 bytes with a subcluster bitmap.
    EXTENDED_L2 = 4,
}

feature_word! { CompatibleFeatures:
    /// Refcount updates may be postponed while the dirty bit is set.
    LAZY_REFCOUNTS = 0,
}

feature_word! { AutoclearFeatures:
    /// The bitmaps extension agrees with the guest data.
    BITMAPS = 0,
    /// The external data file is a valid raw image on its own.
    RAW_EXTERNAL_DATA = 1,
}

/// The three feature words of a header; all empty in version 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Must be known to open.
    pub incompatible: IncompatibleFeatures,
    /// May be ignored.
    pub compatible: CompatibleFeatures,
    /// Must be cleared on the first write if not known.
    pub autoclear: AutoclearFeatures,
}

/// A feature's name as the image gives it: up to 46 bytes, zero padded, any bytes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(transparent)]
pub struct FeatureName([u8; 46]);
const_assert_eq!(size_of::<FeatureName>(), 46);

impl FeatureName {
    /// No name.
    pub const EMPTY: Self = Self([0; 46]);

    /// The first 46 bytes of `name`.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        let (source, mut bytes) = (name.as_bytes(), [0; 46]);
        let (mut from, mut to): (&[u8], &mut [u8]) = (source, &mut bytes);
        while let ([byte, from_rest @ ..], [slot, to_rest @ ..]) = (from, to) {
            *slot = *byte;
            (from, to) = (from_rest, to_rest);
        }
        Self(bytes)
    }

    /// The bytes up to the first zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

impl fmt::Debug for FeatureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for FeatureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The image chooses these bytes: control characters must not reach a terminal.
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// Which word a row of the feature name table speaks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FeatureKind {
    /// [`IncompatibleFeatures`].
    Incompatible,
    /// [`CompatibleFeatures`].
    Compatible,
    /// [`AutoclearFeatures`].
    Autoclear,
    /// A number nobody here knows.
    Unknown(u8),
}

/// One row of the feature name table as it lies on disk.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawFeatureRow {
    /// 0 incompatible, 1 compatible, 2 autoclear.
    pub kind: u8,
    /// Bit number inside the word.
    pub bit: u8,
    /// Name, zero padded.
    pub name: FeatureName,
}
const_assert_eq!(size_of::<RawFeatureRow>(), 48);
const_assert_eq!(align_of::<RawFeatureRow>(), 1);
const_assert_eq!(core::mem::offset_of!(RawFeatureRow, bit), 1);
const_assert_eq!(core::mem::offset_of!(RawFeatureRow, name), 2);
assert_impl_all!(RawFeatureRow: FromBytes, IntoBytes, Unaligned);

impl RawFeatureRow {
    const fn new(kind: u8, bit: u8, name: &str) -> Self {
        Self { kind, bit, name: FeatureName::new(name) }
    }

    /// Which word the row speaks about.
    #[must_use]
    pub const fn feature_kind(&self) -> FeatureKind {
        match self.kind {
            0 => FeatureKind::Incompatible,
            1 => FeatureKind::Compatible,
            2 => FeatureKind::Autoclear,
            other => FeatureKind::Unknown(other),
        }
    }
}

/// The rows the reference implementation writes, in its order.
pub const FEATURE_ROWS: [RawFeatureRow; 8] = [
    RawFeatureRow::new(0, 0, "dirty bit"),
    RawFeatureRow::new(0, 1, "corrupt bit"),
    RawFeatureRow::new(0, 2, "external data file"),
    RawFeatureRow::new(0, 3, "compression type"),
    RawFeatureRow::new(0, 4, "extended L2 entries"),
    RawFeatureRow::new(1, 0, "lazy refcounts"),
    RawFeatureRow::new(2, 0, "bitmaps"),
    RawFeatureRow::new(2, 1, "raw external data"),
];

/// The feature name table extension: 48-byte rows and whatever odd bytes follow the last one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FeatureNameTable(Vec<u8>);

impl fmt::Debug for FeatureNameTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows().map(|row| (row.feature_kind(), row.bit, row.name));
        write!(f, "FeatureNameTable")?;
        f.debug_list().entries(rows).finish()
    }
}

impl FeatureNameTable {
    /// The table the reference implementation writes.
    #[must_use]
    pub fn standard() -> Self {
        Self(FEATURE_ROWS.as_bytes().to_vec())
    }

    /// Takes the bytes of the extension.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes of the extension.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = RawFeatureRow> + '_ {
        rows(&self.0)
    }

    /// The name the image gives to a bit.
    #[must_use]
    pub fn name(&self, kind: FeatureKind, bit: u32) -> Option<FeatureName> {
        name_in(&self.0, kind, bit)
    }
}

fn rows(bytes: &[u8]) -> impl Iterator<Item = RawFeatureRow> + '_ {
    bytes
        .chunks_exact(size_of::<RawFeatureRow>())
        .filter_map(|row| RawFeatureRow::read_from_bytes(row).ok())
}

/// The first name that table bytes give to a bit.
pub(crate) fn name_in(bytes: &[u8], kind: FeatureKind, bit: u32) -> Option<FeatureName> {
    rows(bytes)
        .find(|row| row.feature_kind() == kind && u32::from(row.bit) == bit)
        .map(|row| row.name)
}

#[cfg(test)]
mod tests;
