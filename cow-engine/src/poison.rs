//! Poison: after a failed metadata write or sync nobody knows what the disk holds, so nothing
//! more is written. Reads go on.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// Remembers the first failure.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<Arc<Error>>);

impl Poison {
    /// Refuses with the first failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(first) => Err(Error::Poisoned(Arc::clone(first))),
        }
    }

    /// Passes a result through; a failure is remembered if it is the first.
    pub(crate) fn guard<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && !matches!(error, Error::Poisoned(_))
        {
            self.0.get_or_init(|| Arc::new(error.clone()));
        }
        result
    }
}
