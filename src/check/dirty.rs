//! Repairing an image that was not closed cleanly, so that it can be written again.

use std::fmt;

use block_io::Storage;
use chain::Repair as RepairOnOpen;

use super::{CheckError, CheckOptions, Outcome, Repair, check};

/// Why an image that was not closed cleanly cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum DirtyError {
    /// The check could not be done, or not repair.
    Check(CheckError),
    /// Errors are left that nobody repairs without losing what a guest can read.
    Remaining {
        /// Errors that can lose data.
        corruptions: u64,
        /// Things that could not be checked.
        check_errors: u64,
    },
}

impl std::error::Error for DirtyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Check(error) => Some(error),
            Self::Remaining { .. } => None,
        }
    }
}

impl fmt::Display for DirtyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(error) => error.fmt(f),
            Self::Remaining { corruptions, check_errors } => {
                write!(f, "{corruptions} corruptions and {check_errors} check errors remain")
            }
        }
    }
}

/// Counts all references of an image that was not closed cleanly and clears its dirty bit.
///
/// # Errors
/// Something is wrong beyond the counts, or storage fails; the image is then still dirty.
pub fn repair_dirty(storage: &dyn Storage) -> Result<(), DirtyError> {
    let options = CheckOptions { repair: Repair::All, ..CheckOptions::default() };
    let report = check(storage, options).map_err(DirtyError::Check)?;
    match report.outcome() {
        Outcome::Consistent | Outcome::Leaks => Ok(()),
        Outcome::Corrupt | Outcome::Incomplete => Err(DirtyError::Remaining {
            corruptions: report.corruptions,
            check_errors: report.check_errors,
        }),
    }
}

/// [`repair_dirty`] for [`chain::OpenOptions::repair_dirty`]: an image that was not closed cleanly
/// is repaired when it is opened for writing, as QEMU does.
#[must_use]
pub fn on_open() -> RepairOnOpen {
    RepairOnOpen::new(|storage| Ok(repair_dirty(storage)?))
}
