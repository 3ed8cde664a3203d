//! The real thing.

pub(crate) use ::std::hint::spin_loop;
pub(crate) use ::std::sync::atomic;
pub(crate) use ::std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

/// A small number for the calling thread, the same for its whole life.
pub(crate) fn thread_number() -> usize {
    static NEXT: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
    ::std::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, atomic::Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
