//! What is wrong with bytes: which structure, which field, where, what was found, what is allowed.

use core::fmt;

use static_assertions::assert_impl_all;

use crate::feature::FeatureName;

/// An on-disk structure of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Structure {
    /// The image header in cluster 0.
    Header,
    /// A header extension, by its magic.
    Extension(u32),
    /// The active L1 table.
    L1Table,
    /// An L2 table.
    L2Table,
    /// A compressed cluster descriptor in an L2 table.
    CompressedDescriptor,
    /// The refcount table.
    RefcountTable,
    /// A refcount block.
    RefcountBlock,
    /// The snapshot table.
    SnapshotTable,
    /// The bitmap directory.
    BitmapDirectory,
    /// A bitmap table.
    BitmapTable,
}

/// A field of a structure, by the name the format specification gives it.
pub type Field = &'static str;

/// What stood in the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Found {
    /// A number shown in decimal: counts, sizes, versions.
    Number(u64),
    /// A number shown in hexadecimal: offsets, magics, entries.
    Hex(u64),
    /// The bytes end here; this many are there.
    Bytes(u64),
}

/// A structure that cannot be accepted as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a qcow2 image at all.
    NotQcow2 {
        /// The four bytes where the magic should be.
        found: u32,
    },
    /// A field holds a value the format does not allow.
    Invalid {
        /// The structure that holds the field.
        structure: Structure,
        /// The field.
        field: Field,
        /// Byte offset of the field inside the image, where known.
        at: Option<u64>,
        /// What was found.
        found: Found,
        /// What would have been accepted.
        allowed: &'static str,
    },
    /// A valid image that uses a feature that nobody here knows.
    UnknownFeature {
        /// The lowest unknown incompatible feature bit.
        bit: u32,
        /// What the image's feature name table calls it; empty when it does not say.
        name: FeatureName,
        /// All unknown incompatible feature bits.
        all: u64,
    },
    /// The encoded header does not fit into cluster 0.
    HeaderSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes available: one cluster.
        available: u64,
    },
}

assert_impl_all!(Error: core::error::Error, Send, Sync, Copy);

impl Error {
    /// A value the format does not allow, shown in decimal.
    pub(crate) const fn number(
        structure: Structure,
        field: Field,
        at: Option<u64>,
        found: u64,
        allowed: &'static str,
    ) -> Self {
        Self::Invalid { structure, field, at, found: Found::Number(found), allowed }
    }

    /// A value the format does not allow, shown in hexadecimal.
    pub(crate) const fn hex(
        structure: Structure,
        field: Field,
        at: Option<u64>,
        found: u64,
        allowed: &'static str,
    ) -> Self {
        Self::Invalid { structure, field, at, found: Found::Hex(found), allowed }
    }

    /// Bytes that end before the structure does; `found` of them are there.
    pub(crate) const fn cut_off(
        structure: Structure,
        field: Field,
        at: u64,
        found: u64,
        allowed: &'static str,
    ) -> Self {
        Self::Invalid { structure, field, at: Some(at), found: Found::Bytes(found), allowed }
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotQcow2 { found } => {
                write!(f, "not a qcow2 image: magic is {found:#010x}, not 0x514649fb")
            }
            Self::Invalid { structure, field, at, found, allowed } => {
                write!(f, "{structure}: {field}")?;
                if let Some(at) = at {
                    write!(f, " at offset {at:#x}")?;
                }
                write!(f, " is {found}, allowed is {allowed}")
            }
            Self::UnknownFeature { bit, name, all } => {
                write!(f, "header: incompatible_features bit {bit}")?;
                if name != FeatureName::EMPTY {
                    write!(f, " ({name})")?;
                }
                f.write_str(" is not known")?;
                if all != 1 << bit {
                    write!(f, ", all unknown bits are {all:#x}")?;
                }
                Ok(())
            }
            Self::HeaderSpace { needed, available } => {
                write!(f, "header: {needed} bytes do not fit into the {available} of cluster 0")
            }
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Extension(magic) => write!(f, "header extension {magic:#010x}"),
            Self::L1Table => f.write_str("L1 table"),
            Self::L2Table => f.write_str("L2 table"),
            Self::CompressedDescriptor => f.write_str("compressed cluster descriptor"),
            Self::RefcountTable => f.write_str("refcount table"),
            Self::RefcountBlock => f.write_str("refcount block"),
            Self::SnapshotTable => f.write_str("snapshot table"),
            Self::BitmapDirectory => f.write_str("bitmap directory"),
            Self::BitmapTable => f.write_str("bitmap table"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Bytes(count) => write!(f, "cut off after {count} bytes"),
        }
    }
}

#[cfg(test)]
mod tests;
