//! Why an image could not be looked at.

use std::fmt;

/// Why an image could not be looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InfoError {
    /// The host failed.
    Storage(block_io::Error),
    /// The bytes are no image of this format, or damaged.
    Format(qcow2_format::Error),
    /// A table the header points at is larger than any valid one.
    TooLarge {
        /// Which table.
        table: &'static str,
        /// Its length in bytes.
        found: u64,
        /// The largest length accepted.
        allowed: u64,
    },
}

impl fmt::Display for InfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Format(error) => error.fmt(f),
            Self::TooLarge { table, found, allowed } => {
                write!(f, "{table} of {found} bytes, at most {allowed} are allowed")
            }
        }
    }
}

impl std::error::Error for InfoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Format(error) => Some(error),
            Self::TooLarge { .. } => None,
        }
    }
}

impl From<block_io::Error> for InfoError {
    fn from(error: block_io::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<qcow2_format::Error> for InfoError {
    fn from(error: qcow2_format::Error) -> Self {
        Self::Format(error)
    }
}
