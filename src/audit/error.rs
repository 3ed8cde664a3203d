//! Why a file could not be looked at.

use std::fmt;

/// Why a file could not be looked at. What is wrong with an image is no error but a finding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AuditError {
    /// The file cannot be opened, is in use, or the host failed.
    Storage(block_io::Error),
}

impl From<block_io::Error> for AuditError {
    fn from(error: block_io::Error) -> Self {
        Self::Storage(error)
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Storage(error) = self;
        error.fmt(f)
    }
}

impl std::error::Error for AuditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let Self::Storage(error) = self;
        Some(error)
    }
}
