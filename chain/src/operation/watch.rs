//! `Watch`: who looks on while an operation runs, and may stop it.

use core::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are behind us.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What an operation has moved, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// Read.
    pub read: u64,
    /// Written as data.
    pub written: u64,
    /// Made to read as zeros.
    pub zeroed: u64,
}

/// Who looks on while an operation runs, and may stop it.
///
/// Progress may be told from several threads at once. A cancelled operation ends with
/// [`Error::Cancelled`] and leaves a valid chain that shows what it showed before.
#[derive(Clone, Copy, Default)]
pub struct Watch<'w> {
    progress: Option<&'w (dyn Fn(Progress) + Sync)>,
    cancel: Option<&'w AtomicBool>,
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

impl<'w> Watch<'w> {
    /// Nobody looks.
    #[must_use]
    pub const fn none() -> Self {
        Self { progress: None, cancel: None }
    }

    /// Tells this function how far the operation is.
    #[must_use]
    pub const fn progress(mut self, progress: &'w (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Stops when somebody raises this flag.
    #[must_use]
    pub const fn cancel(mut self, flag: &'w AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(told) = self.progress {
            told(progress);
        }
    }

    /// Ends the operation here if somebody wants it.
    pub(crate) fn check(&self) -> Result<()> {
        match self.cancel {
            // The flag alone is the message; nothing else is handed over with it.
            Some(flag) if flag.load(Ordering::Relaxed) => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }
}
