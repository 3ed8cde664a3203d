//! What can go wrong with one image: which structure, where, and what would have been accepted.

use core::fmt;
use std::sync::Arc;

use qcow2_format::{GuestOffset, HostOffset};
use static_assertions::assert_impl_all;

use crate::resize::ResizeRefusal;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What can go wrong with one image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The bytes of the image are not acceptable.
    Format(qcow2_format::Error),
    /// An L2 entry means nothing.
    Entry(cluster_map::Error),
    /// The counts do not allow an operation.
    Refcount(refcount::Error),
    /// Host storage failed.
    Storage {
        /// What was being read or written.
        during: Purpose,
        /// What the storage said.
        source: block_io::Error,
    },
    /// The layer below failed to answer.
    Below {
        /// First guest byte that was asked for.
        guest: GuestOffset,
        /// What it said.
        source: Arc<dyn core::error::Error + Send + Sync>,
    },
    /// A valid image that uses something this engine does not do (yet).
    Unsupported {
        /// The feature, by its name in the format specification.
        feature: Feature,
        /// Whether opening read-only would work.
        readable: bool,
    },
    /// The image says that it is damaged; only reading is allowed.
    MarkedCorrupt,
    /// The image was not closed cleanly: counts may be too low, so only reading is allowed before
    /// a repair.
    MarkedDirty,
    /// Guest data lies in an external file, which was not given.
    DataFileMissing {
        /// The name that the header gives it, if any.
        name: Option<String>,
    },
    /// An external data file was given for an image that holds its data itself.
    DataFileUnexpected,
    /// A table points at a place that cannot be right.
    Misplaced {
        /// The table that holds the entry.
        table: &'static str,
        /// Index of the entry.
        index: u64,
        /// Where it points.
        found: HostOffset,
        /// What would have been accepted.
        allowed: &'static str,
    },
    /// Two structures of the image claim the same host cluster.
    Overlap {
        /// What claims it second.
        claimant: Area,
        /// Where.
        host: HostOffset,
        /// What owns it already.
        owner: Area,
    },
    /// The image has more tables than can be guarded against writes.
    TooManyTables {
        /// What was one too many.
        area: Area,
        /// How many pieces of metadata there may be.
        allowed: u64,
    },
    /// An L2 entry points at a data cluster behind the end of the file.
    LostCluster {
        /// First guest byte that cannot be read.
        guest: GuestOffset,
        /// Where the cluster should begin.
        host: HostOffset,
        /// Length of the file in bytes.
        file_bytes: u64,
    },
    /// A compressed cluster does not yield exactly one cluster of bytes.
    Decompress {
        /// Where the compressed bytes lie.
        host: HostOffset,
        /// What is wrong with them.
        fault: DecompressFault,
    },
    /// The request lies outside the disk.
    OutOfRange {
        /// First byte of the request.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// Size of the disk in bytes.
        size: u64,
    },
    /// A compressed write to a cluster that is allocated already.
    Allocated {
        /// First guest byte of the cluster.
        guest: GuestOffset,
    },
    /// The image was opened read-only.
    ReadOnly,
    /// A plan could not be used as it was.
    Plan {
        /// Why.
        reason: &'static str,
    },
    /// An option of a new image is not acceptable.
    Option {
        /// The option.
        name: &'static str,
        /// What was given.
        found: String,
        /// What would have been accepted.
        allowed: &'static str,
    },
    /// The disk cannot be given the size asked for.
    Resize(ResizeRefusal),
    /// An earlier failure left the metadata on disk unknown; this is that failure.
    Poisoned(Arc<Error>),
}

assert_impl_all!(Error: core::error::Error, Send, Sync, Clone);

/// What a storage call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The image header.
    Header,
    /// The active L1 table.
    L1Table,
    /// An L2 table.
    L2Table,
    /// The refcount table.
    RefcountTable,
    /// A refcount block.
    RefcountBlock,
    /// The snapshot table.
    SnapshotTable,
    /// The L1 table of an internal snapshot.
    SnapshotL1Table,
    /// The bitmap directory.
    BitmapDirectory,
    /// The table of a bitmap.
    BitmapTable,
    /// Guest data.
    Data,
    /// Old bytes around a write.
    Cow,
    /// A compressed cluster.
    CompressedCluster,
    /// Making writes durable.
    Sync,
    /// The length of the file.
    Length,
}

/// A feature of the format that needs support to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// AES or LUKS.
    Encryption,
    /// Persistent dirty bitmaps.
    Bitmaps,
    /// deflate compression, when compiled out.
    Deflate,
    /// zstd compression, when compiled out.
    Zstd,
    /// Raw external data without an external data file.
    RawExternalData,
}

/// Something that owns host clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Area {
    /// Cluster 0.
    Header,
    /// The active L1 table.
    L1Table,
    /// An L2 table.
    L2Table,
    /// The refcount table.
    RefcountTable,
    /// A refcount block.
    RefcountBlock,
    /// The snapshot table.
    SnapshotTable,
    /// The L1 table of an internal snapshot.
    SnapshotL1Table,
    /// An L2 table that only internal snapshots use.
    SnapshotL2Table,
    /// The bitmap directory.
    BitmapDirectory,
    /// The table of a bitmap.
    BitmapTable,
    /// The bits of a bitmap.
    BitmapData,
    /// The header and key material of LUKS.
    EncryptionHeader,
    /// Where a table was until it moved or went away.
    RetiredTable,
    /// Guest data.
    Data,
    /// Where the file is to be cut.
    EndOfFile,
}

/// What is wrong with a compressed cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecompressFault {
    /// The stream is not of the image's compression type, or is damaged.
    Damaged,
    /// It ends before a cluster is full.
    TooShort,
    /// It does not end where the cluster is full.
    Incomplete,
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The image is damaged.
    Corrupt,
    /// The image is fine, this engine cannot do it.
    Unsupported,
    /// The request or option was wrong.
    Caller,
    /// The host failed.
    Io,
    /// The image was given up earlier.
    Poisoned,
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Format(_)
            | Self::Entry(_)
            | Self::Refcount(_)
            | Self::MarkedCorrupt
            | Self::MarkedDirty
            | Self::Misplaced { .. }
            | Self::Overlap { .. }
            | Self::LostCluster { .. }
            | Self::Decompress { .. } => Class::Corrupt,
            Self::Unsupported { .. } | Self::TooManyTables { .. } => Class::Unsupported,
            Self::OutOfRange { .. }
            | Self::Allocated { .. }
            | Self::DataFileMissing { .. }
            | Self::DataFileUnexpected
            | Self::ReadOnly
            | Self::Plan { .. }
            | Self::Option { .. }
            | Self::Resize(_) => Class::Caller,
            Self::Storage { .. } | Self::Below { .. } => Class::Io,
            Self::Poisoned(_) => Class::Poisoned,
        }
    }

    /// Whether this tells of metadata that contradicts itself, so that nobody knows what else is
    /// wrong: reason enough to mark the image corrupt.
    pub(crate) const fn is_damage(&self) -> bool {
        match self {
            Self::Entry(_) | Self::Misplaced { .. } | Self::Overlap { .. } => true,
            Self::Refcount(error) => error.is_damage(),
            _ => false,
        }
    }

    /// A storage failure with its purpose, for `map_err`.
    pub(crate) fn storage(during: Purpose) -> impl FnOnce(block_io::Error) -> Self {
        move |source| Self::Storage { during, source }
    }

    /// The host's error number, if a host call is at the bottom of this.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Storage { source, .. } => source.raw_os_error(),
            Self::Poisoned(first) => first.raw_os_error(),
            _ => None,
        }
    }
}

impl From<qcow2_format::Error> for Error {
    fn from(error: qcow2_format::Error) -> Self {
        Self::Format(error)
    }
}

impl From<cluster_map::Error> for Error {
    fn from(error: cluster_map::Error) -> Self {
        Self::Entry(error)
    }
}

impl From<refcount::Error> for Error {
    fn from(error: refcount::Error) -> Self {
        Self::Refcount(error)
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Format(source) => Some(source),
            Self::Entry(source) => Some(source),
            Self::Refcount(source) => Some(source),
            Self::Storage { source, .. } => Some(source),
            Self::Below { source, .. } => Some(source),
            Self::Resize(source) => Some(source),
            Self::Poisoned(first) => Some(first),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(source) => source.fmt(f),
            Self::Entry(source) => source.fmt(f),
            Self::Refcount(source) => source.fmt(f),
            Self::Storage { during, source } => write!(f, "{during}: {source}"),
            Self::Below { guest, source } => write!(f, "backing file at {guest}: {source}"),
            Self::Unsupported { feature, readable: true } => {
                write!(f, "{feature} not supported for writing yet, open the image read-only")
            }
            Self::Unsupported { feature, readable: false } => {
                write!(f, "{feature} not supported yet")
            }
            Self::MarkedCorrupt => f.write_str(
                "header: incompatible_features bit 1 says the image is corrupt, open it read-only \
                 or repair it with check -r all",
            ),
            Self::MarkedDirty => f.write_str(
                "header: incompatible_features bit 0 says the image was not closed cleanly, open \
                 it read-only or repair it with check -r all",
            ),
            Self::DataFileMissing { name: Some(name) } => {
                write!(f, "guest data lies in the external data file {name}, which was not given")
            }
            Self::DataFileMissing { name: None } => f.write_str(
                "guest data lies in an external data file, which was not given and has no name",
            ),
            Self::DataFileUnexpected => {
                f.write_str("a data file was given for an image that holds its data itself")
            }
            Self::Misplaced { table, index, found, allowed } => {
                write!(f, "{table}: entry {index} is {found}, allowed is {allowed}")
            }
            Self::Overlap { claimant, host, owner } => {
                write!(f, "{claimant} at host offset {host} overlaps with {owner}")
            }
            Self::TooManyTables { area, allowed } => write!(
                f,
                "{area} is one piece of metadata too many, writing allows {allowed}, open the image \
                 read-only"
            ),
            Self::LostCluster { guest, host, file_bytes } => write!(
                f,
                "L2 table entry for guest offset {guest}: data cluster at host offset {host} lies \
                 behind the end of the file at {file_bytes:#x}"
            ),
            Self::Decompress { host, fault } => {
                write!(f, "compressed cluster at host offset {host}: {fault}")
            }
            Self::OutOfRange { offset, len, size } => write!(
                f,
                "request of {len} bytes at offset {offset:#x} lies outside the disk of {size} bytes"
            ),
            Self::Allocated { guest } => {
                write!(f, "compressed write to guest offset {guest}, which is allocated already")
            }
            Self::ReadOnly => f.write_str("image was opened read-only"),
            Self::Plan { reason } => f.write_str(reason),
            Self::Option { name, found, allowed } => {
                write!(f, "option {name} is {found}, allowed is {allowed}")
            }
            Self::Resize(source) => source.fmt(f),
            Self::Poisoned(first) => write!(f, "image given up after an earlier failure: {first}"),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::L1Table => "L1 table",
            Self::L2Table => "L2 table",
            Self::RefcountTable => "refcount table",
            Self::RefcountBlock => "refcount block",
            Self::SnapshotTable => "snapshot table",
            Self::SnapshotL1Table => "L1 table of a snapshot",
            Self::BitmapDirectory => "bitmap directory",
            Self::BitmapTable => "bitmap table",
            Self::Data => "guest data",
            Self::Cow => "copy-on-write",
            Self::CompressedCluster => "compressed cluster",
            Self::Sync => "sync",
            Self::Length => "file length",
        })
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encryption => f.write_str("encryption is"),
            Self::Bitmaps => f.write_str("persistent bitmaps are"),
            Self::Deflate => f.write_str("zlib compression (feature `deflate` compiled out) is"),
            Self::Zstd => f.write_str("zstd compression (feature `zstd` compiled out) is"),
            Self::RawExternalData => {
                f.write_str("raw external data without an external data file is")
            }
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "the header",
            Self::L1Table => "the L1 table",
            Self::L2Table => "an L2 table",
            Self::RefcountTable => "the refcount table",
            Self::RefcountBlock => "a refcount block",
            Self::SnapshotTable => "the snapshot table",
            Self::SnapshotL1Table => "the L1 table of a snapshot",
            Self::SnapshotL2Table => "an L2 table of a snapshot",
            Self::BitmapDirectory => "the bitmap directory",
            Self::BitmapTable => "a bitmap table",
            Self::BitmapData => "the data of a bitmap",
            Self::EncryptionHeader => "the encryption header",
            Self::RetiredTable => "a table that was given up",
            Self::Data => "guest data",
            Self::EndOfFile => "the end of the file",
        })
    }
}

impl fmt::Display for DecompressFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "the compressed stream is damaged",
            Self::TooShort => "the compressed stream ends before the cluster is full",
            Self::Incomplete => "the compressed stream does not end where the cluster is full",
        })
    }
}
