//! Why a check has no answer.

use std::fmt;

use super::CheckReport;

/// Why a check has no answer; the programs exit with code 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// The header or a table that must be understood is broken.
    Format(qcow2_format::Error),
    /// Storage failed.
    Storage(block_io::Error),
    /// The file has more clusters than can be counted.
    TooManyClusters {
        /// Clusters of the file.
        found: u64,
        /// The most that are counted.
        allowed: u64,
    },
    /// More L2 tables than this lie at no cluster boundary: reading them all could take forever.
    TooManyUnalignedTables {
        /// The most that are read.
        allowed: u64,
    },
    /// The bitmap table of a bitmap that is not in use has another length than the disk needs.
    BitmapTableLength {
        /// Name of the bitmap.
        name: String,
        /// Entries found.
        found: u64,
        /// Entries needed.
        allowed: u64,
    },
    /// Leaks were to be repaired, but the refcount structure must be rebuilt first.
    RebuildNeeded {
        /// What was found.
        report: Box<CheckReport>,
    },
    /// The rebuilt refcount table would exceed its limit.
    RefcountTableTooLarge {
        /// Bytes needed.
        found: u64,
        /// The most that are allowed.
        allowed: u64,
    },
}

const _: () = {
    const fn assert_error<T: std::error::Error + Clone + Send + Sync + 'static>() {}
    assert_error::<CheckError>();
};

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
            Self::TooManyClusters { found, allowed } => {
                write!(f, "the file has {found} clusters, allowed is up to {allowed}")
            }
            Self::TooManyUnalignedTables { allowed } => {
                write!(f, "more than {allowed} L2 tables are not cluster aligned")
            }
            Self::BitmapTableLength { name, found, allowed } => {
                write!(f, "bitmap table of '{name}': {found} entries, allowed is {allowed}")
            }
            Self::RebuildNeeded { .. } => {
                f.write_str("the refcount structure must be rebuilt, which -r all does")
            }
            Self::RefcountTableTooLarge { found, allowed } => {
                write!(f, "the refcount table would need {found} bytes, allowed is {allowed}")
            }
        }
    }
}

impl std::error::Error for CheckError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            Self::Storage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<qcow2_format::Error> for CheckError {
    fn from(error: qcow2_format::Error) -> Self {
        Self::Format(error)
    }
}

impl From<block_io::Error> for CheckError {
    fn from(error: block_io::Error) -> Self {
        Self::Storage(error)
    }
}
