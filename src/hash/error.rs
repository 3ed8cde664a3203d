//! Why there is no hash.

use std::fmt;
use std::sync::Arc;

use chain::Error as ChainError;

/// Why there is no hash.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HashError {
    /// What is allocated could not be learned.
    Status {
        /// Guest byte asked about.
        offset: u64,
        /// Why.
        source: Arc<ChainError>,
    },
    /// Bytes could not be read.
    Read {
        /// First guest byte of the request.
        offset: u64,
        /// Why.
        source: Arc<ChainError>,
    },
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { offset, source } => {
                write!(f, "cannot tell what is allocated at guest offset {offset}: {source}")
            }
            Self::Read { offset, source } => {
                write!(f, "error while reading guest offset {offset}: {source}")
            }
        }
    }
}

impl std::error::Error for HashError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Status { source, .. } | Self::Read { source, .. } => Some(source.as_ref()),
        }
    }
}
