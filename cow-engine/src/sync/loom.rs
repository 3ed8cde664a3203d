//! Threads that are switched at each lock and atomic, and memory that is as weak as the orderings
//! allow. Every execution is tried, so only small parts can be.

pub(crate) use ::loom::hint::spin_loop;
pub(crate) use ::loom::sync::atomic;
pub(crate) use ::loom::sync::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
/// In no model.
pub(crate) use ::std::sync::OnceLock;

use core::ops::Deref;

use atomic::{AtomicUsize, Ordering};

/// In no model where it matters.
pub(crate) fn thread_number() -> usize {
    0
}

/// Like the one of the standard library, whose count of holders promises nothing about what they
/// did: the checker's own is stricter, and would hide that.
#[derive(Debug)]
pub(crate) struct Arc<T>(::std::sync::Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    holders: AtomicUsize,
    value: T,
}

impl<T> Arc<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(::std::sync::Arc::new(Shared { holders: AtomicUsize::new(1), value }))
    }

    pub(crate) fn strong_count(this: &Self) -> usize {
        this.0.holders.load(Ordering::Relaxed)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        Self(::std::sync::Arc::clone(&self.0))
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::Release);
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}
