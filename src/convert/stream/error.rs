//! Why a copy through a pipe stopped.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::convert::ConvertError;
use crate::create::CreateError;

/// Why a copy through a pipe stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The sources could not be read, or the target could not be written.
    Copy(ConvertError),
    /// The image that was asked for is not possible.
    Create(CreateError),
    /// An image in a pipe cannot have its data elsewhere.
    ExternalData,
    /// Raw bytes have no layout.
    NoLayout,
    /// More separate stretches of data than memory is taken for.
    TooScattered {
        /// How many there may be.
        allowed: usize,
    },
    /// The refcount table of the image would be too large.
    TooLarge {
        /// Clusters that had to be counted.
        clusters: u64,
    },
    /// The input failed.
    Input {
        /// Bytes that came before.
        offset: u64,
        /// What the host said.
        source: Arc<io::Error>,
    },
    /// The image that comes in is not acceptable.
    Image(cow_engine::Error),
    /// The image that comes in shows a file that cannot come through the same pipe.
    Backing {
        /// The name that its header gives it.
        name: String,
    },
    /// The input ends inside the table without which nothing is known.
    Truncated {
        /// Bytes that came.
        found: u64,
    },
    /// Bytes are used in two places, and a pipe gives them once.
    Again {
        /// Where they lie in the input.
        offset: u64,
    },
    /// More has to wait for its place than is allowed.
    SpillFull {
        /// Bytes allowed.
        allowed: u64,
    },
    /// What has to wait could not be kept.
    Spill {
        /// What the host said.
        source: Arc<io::Error>,
    },
    /// The output takes no more.
    Output {
        /// Bytes that went into it before.
        offset: u64,
        /// What the host said.
        source: Arc<io::Error>,
    },
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(error) => error.fmt(f),
            Self::Create(error) => error.fmt(f),
            Self::ExternalData => {
                f.write_str("an image in a pipe cannot have an external data file")
            }
            Self::NoLayout => f.write_str("raw bytes have no layout"),
            Self::TooScattered { allowed } => {
                write!(
                    f,
                    "data in more than {allowed} separate stretches, use a larger cluster size"
                )
            }
            Self::TooLarge { clusters } => write!(
                f,
                "{clusters} clusters are more than the refcount table can count, use a larger \
                 cluster size"
            ),
            Self::Input { offset, source } => {
                write!(f, "error while reading at byte {offset} of the input: {source}")
            }
            Self::Image(error) => error.fmt(f),
            Self::Backing { name } => {
                write!(f, "the image has the backing file '{name}', which does not come with it")
            }
            Self::Truncated { found } => {
                write!(f, "the input ends after {found} bytes, inside the L1 table")
            }
            Self::Again { offset } => write!(
                f,
                "the bytes at {offset:#x} of the input are used in two places, and a pipe gives \
                 them once"
            ),
            Self::SpillFull { allowed } => write!(
                f,
                "data came before the tables that say where it belongs, more than the {allowed} \
                 bytes that may wait"
            ),
            Self::Spill { source } => {
                write!(f, "data that has to wait for its place cannot be kept: {source}")
            }
            Self::Output { offset, source } => {
                write!(f, "error while writing at byte {offset} of the output: {source}")
            }
        }
    }
}

impl std::error::Error for StreamError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Copy(source) => Some(source),
            Self::Create(source) => Some(source),
            Self::Image(source) => Some(source),
            Self::Input { source, .. } | Self::Output { source, .. } | Self::Spill { source } => {
                Some(source.as_ref())
            }
            _ => None,
        }
    }
}

impl From<ConvertError> for StreamError {
    fn from(error: ConvertError) -> Self {
        Self::Copy(error)
    }
}

impl From<CreateError> for StreamError {
    fn from(error: CreateError) -> Self {
        Self::Create(error)
    }
}
