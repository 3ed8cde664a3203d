//! Poison: after a failed metadata write or sync nobody knows what the disk holds, so nothing
//! more is written. Reads go on.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sync::OnceLock;

/// Remembers the first failure.
#[derive(Debug, Default)]
pub(crate) struct Poison(OnceLock<Arc<Error>>);

/// Poisons unless it is told that all went well.
struct Unfinished<'p>(&'p Poison);

impl Poison {
    /// Refuses with the first failure, if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(first) => Err(Error::Poisoned(Arc::clone(first))),
        }
    }

    /// Whether the host has failed: what the disk holds is unknown then. Damage that was found on
    /// the way to it leaves the disk as it was.
    pub(crate) fn is_host_failure(&self) -> bool {
        self.0.get().is_some_and(|first| !first.is_damage())
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

    /// Does `work`; a failure, or a panic that leaves it half done, is remembered.
    pub(crate) fn guarding<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let unfinished = Unfinished(self);
        let result = self.guard(work());
        core::mem::forget(unfinished);
        result
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let reason = "writing metadata was broken off by a panic";
        self.0.0.get_or_init(|| Arc::new(Error::Plan { reason }));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn the_first_failure_is_the_one_that_is_told() {
        let poison = Poison::default();
        assert!(poison.guarding(|| Ok(())).is_ok());
        assert!(poison.check().is_ok());
        let _ = poison.guard::<()>(Err(Error::MarkedCorrupt));
        let _ = poison.guard::<()>(Err(Error::ReadOnly));
        let Err(Error::Poisoned(first)) = poison.check() else { panic!("poisoned") };
        assert!(matches!(*first, Error::MarkedCorrupt));
    }

    #[test]
    fn a_panic_poisons() {
        let poison = Poison::default();
        let broken = AssertUnwindSafe(|| poison.guarding::<()>(|| panic!("broken off")));
        assert!(catch_unwind(broken).is_err());
        assert!(matches!(poison.check(), Err(Error::Poisoned(_))));
    }
}
