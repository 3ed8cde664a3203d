//! Why an image was not amended.

use std::fmt;

/// Why an image was not amended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AmendError {
    /// Raw images have no options.
    NotQcow2,
    /// A refcount width that is no power of two up to 64 bits.
    RefcountBits {
        /// Bits asked for.
        found: u64,
    },
    /// Another refcount width than 16 bits was asked for in version 2.
    Version2RefcountBits,
    /// Version 2 was asked for, and the refcounts are not 16 bits wide.
    DowngradeRefcountBits,
    /// Lazy refcounts were asked for in version 2.
    Version2Lazy,
    /// Another backing file is no matter of amending.
    Backing,
    /// A data file was named for an image that has none.
    NoDataFile,
    /// A data file cannot become a raw image.
    DataFileRaw,
    /// Version 2 has no external data file.
    DowngradeDataFile,
    /// Version 2 does not have these features.
    DowngradeFeatures {
        /// The incompatible feature bits.
        found: u64,
    },
    /// Tables of snapshots may hold zero clusters, which version 2 does not have.
    DowngradeSnapshots,
    /// Version 2 has one compression type, and clusters are compressed with the other.
    DowngradeCompression,
    /// A count does not fit the new width.
    Count {
        /// Bits asked for.
        bits: u32,
        /// Host offset of the cluster.
        offset: u64,
        /// Its count.
        found: u64,
    },
    /// The new refcount table would be larger than any image may have.
    RefcountTableTooLarge {
        /// Bytes needed.
        found: u64,
        /// Bytes at most.
        allowed: u64,
    },
    /// The header cannot be switched by one write of its first sector.
    HeaderInTwo {
        /// Bytes of the old header that mean something.
        old: u64,
        /// Bytes of the new one.
        new: u64,
    },
    /// The new header is not possible.
    Format(qcow2_format::Error),
    /// The host failed.
    Storage(block_io::Error),
    /// The engine failed.
    Engine(cow_engine::Error),
    /// Closing the chain failed.
    Chain(chain::Error),
}

impl fmt::Display for AmendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NotQcow2 => "Format driver 'raw' does not support option amendment",
            Self::RefcountBits { .. } => {
                "Refcount width must be a power of two and may not exceed 64 bits"
            }
            Self::Version2RefcountBits => {
                "Refcount widths other than 16 bits require compatibility level 1.1 or above (use \
                 compat=1.1 or greater)"
            }
            Self::DowngradeRefcountBits => "compat=0.10 requires refcount_bits=16",
            Self::Version2Lazy => {
                "Lazy refcounts only supported with compatibility level 1.1 and above (use \
                 compat=1.1 or greater)"
            }
            Self::Backing => "Cannot amend the backing file",
            Self::NoDataFile => {
                "data-file can only be set for images that use an external data file"
            }
            Self::DataFileRaw => "data-file-raw cannot be set on existing images",
            Self::DowngradeDataFile => "Cannot downgrade an image with a data file",
            Self::DowngradeSnapshots => "Internal snapshots prevent downgrade of image",
            Self::DowngradeCompression => {
                "Cannot downgrade an image with zstd compression type and existing compressed \
                 clusters"
            }
            Self::DowngradeFeatures { found } => {
                return write!(
                    f,
                    "Cannot downgrade an image with incompatible features {found:#x} set"
                );
            }
            Self::Count { bits, offset, found } => {
                return write!(
                    f,
                    "Cannot decrease refcount entry width to {bits} bits: Cluster at offset \
                     {offset:#x} has a refcount of {found}"
                );
            }
            Self::RefcountTableTooLarge { found, allowed } => {
                return write!(f, "the refcount table needs {found} bytes, allowed are {allowed}");
            }
            Self::HeaderInTwo { old, new } => {
                return write!(
                    f,
                    "the header ({old} bytes, then {new}) cannot be switched by one write of its \
                     first sector; convert the image instead"
                );
            }
            Self::Format(error) => return error.fmt(f),
            Self::Storage(error) => return error.fmt(f),
            Self::Engine(error) => return error.fmt(f),
            Self::Chain(error) => return error.fmt(f),
        };
        f.write_str(text)
    }
}

impl std::error::Error for AmendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            Self::Storage(error) => Some(error),
            Self::Engine(error) => Some(error),
            Self::Chain(error) => Some(error),
            _ => None,
        }
    }
}

impl From<qcow2_format::Error> for AmendError {
    fn from(error: qcow2_format::Error) -> Self {
        Self::Format(error)
    }
}

impl From<block_io::Error> for AmendError {
    fn from(error: block_io::Error) -> Self {
        Self::Storage(error)
    }
}
