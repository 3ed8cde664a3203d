//! Threads that are switched at each lock and atomic, as a schedule says.

pub(crate) use ::shuttle::hint::spin_loop;
pub(crate) use ::shuttle::sync::atomic;
pub(crate) use ::shuttle::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
/// Nothing is decided by how many hold one but eviction, which looks under a lock.
pub(crate) use ::std::sync::Arc;

use core::fmt;

/// A small number for the calling thread, the same for its whole life.
pub(crate) fn thread_number() -> usize {
    ::shuttle::current::me().into()
}

/// A cell that is written once; looking at it is a step like looking at an atomic.
pub(crate) struct OnceLock<T> {
    step: atomic::AtomicBool,
    value: ::std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) const fn new() -> Self {
        Self { step: atomic::AtomicBool::new(false), value: ::std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.step.load(atomic::Ordering::SeqCst);
        self.value.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.step.store(true, atomic::Ordering::SeqCst);
        self.value.set(value)
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        self.step.store(true, atomic::Ordering::SeqCst);
        self.value.get_or_init(init)
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
