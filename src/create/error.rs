//! Why an image could not be made.

use std::fmt;
use std::path::PathBuf;

/// Why an image could not be made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The file could not be created, locked or written.
    Storage(block_io::Error),
    /// The external data file could not be created or locked.
    DataFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: block_io::Error,
    },
    /// An option is not possible, or writing the structures failed.
    Engine(cow_engine::Error),
    /// A cluster size that is no power of two between 512 bytes and 2 MiB.
    ClusterSize {
        /// Bytes asked for.
        found: u64,
    },
    /// A refcount width that is no power of two up to 64 bits.
    RefcountBits {
        /// Bits asked for.
        found: u64,
    },
    /// A size that is too large for any file.
    Size {
        /// Bytes asked for.
        found: u64,
    },
    /// The new image is its own backing file.
    OwnBacking,
    /// The new image is its own data file.
    OwnDataFile,
    /// The data file, which would be emptied, is the backing file.
    DataFileIsBacking,
    /// A raw image cannot have a backing file.
    RawBacking,
    /// A raw image has no metadata.
    RawMetadata,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::DataFile { path, source } => write!(f, "data file {}: {source}", path.display()),
            Self::Engine(error) => error.fmt(f),
            Self::ClusterSize { .. } => {
                f.write_str("Cluster size must be a power of two between 512 and 2048k")
            }
            Self::RefcountBits { .. } => {
                f.write_str("Refcount width must be a power of two and may not exceed 64 bits")
            }
            Self::Size { found } => {
                write!(f, "image size of {found} bytes is beyond what a file can have")
            }
            Self::OwnBacking => f.write_str(
                "Error: Trying to create an image with the same filename as the backing file",
            ),
            Self::OwnDataFile => f.write_str(
                "Error: Trying to create an image with the same filename as its data file",
            ),
            Self::DataFileIsBacking => f.write_str(
                "Error: Trying to create a data file with the same filename as the backing file",
            ),
            Self::RawBacking => f.write_str("Backing file not supported for file format 'raw'"),
            Self::RawMetadata => f.write_str("Unsupported preallocation mode: metadata"),
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::DataFile { source, .. } => Some(source),
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}
