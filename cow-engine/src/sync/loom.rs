//! Threads that are switched at each lock and atomic, and memory that is as weak as the orderings
//! allow. Every execution is tried, so only small parts can be.

pub(crate) use ::loom::hint::spin_loop;
pub(crate) use ::loom::sync::atomic;
pub(crate) use ::loom::sync::{
    Arc, Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
/// In no model.
pub(crate) use ::std::sync::OnceLock;

/// In no model where it matters.
pub(crate) fn thread_number() -> usize {
    0
}
