//! Why a copy stopped.

use std::fmt;
use std::sync::Arc;

/// Why a copy stopped. Offsets are those of the target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConvertError {
    /// The target ends before the sources do.
    TargetTooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes there.
        found: u64,
    },
    /// What is allocated could not be learned.
    Status {
        /// First byte asked about.
        offset: u64,
        /// Why.
        source: Arc<chain::Error>,
    },
    /// A source could not be read.
    Read {
        /// First byte of the request.
        offset: u64,
        /// Why.
        source: Arc<chain::Error>,
    },
    /// The target could not be written.
    Write {
        /// First byte of the request.
        offset: u64,
        /// Why.
        source: Arc<chain::Error>,
    },
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetTooSmall { needed, found } => {
                write!(f, "target of {found} bytes for sources of {needed} bytes")
            }
            Self::Status { offset, source } => {
                write!(f, "error while reading block status at offset {offset}: {source}")
            }
            Self::Read { offset, source } => {
                write!(f, "error while reading at byte {offset}: {source}")
            }
            Self::Write { offset, source } => {
                write!(f, "error while writing at byte {offset}: {source}")
            }
        }
    }
}

impl std::error::Error for ConvertError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TargetTooSmall { .. } => None,
            Self::Status { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. } => Some(source.as_ref()),
        }
    }
}
