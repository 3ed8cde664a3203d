//! Who may move the end of a file while others write.
//!
//! Extending a file is "look at the length, then set it", and writing part of a block directly
//! is "read, change, write back". A write of somebody else in between would be lost, so such
//! steps run alone. Writes before the known end, the usual ones, do not even notice.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The gate of one file. Not reentrant: whoever holds it calls nothing that takes it.
#[derive(Debug, Default)]
pub(super) struct Order {
    gate: RwLock<()>,
    /// The file has been at least this long since it was last cut. A hint that may lag behind;
    /// whoever finds it too small only takes the gate without need.
    known_end: AtomicU64,
    /// Writes under way that do not hold the gate until they are done: those of a
    /// [`Queue`](crate::uring::Queue), whose thread may have to pass the gate before it can look
    /// at them again.
    outsiders: AtomicUsize,
}

impl Order {
    /// A write that will be under way without holding the gate. Whoever holds it alone is waited
    /// for, so that they know of each such write before they act.
    #[cfg(feature = "io-uring")]
    pub(super) fn outsider_begins(&self) {
        let _gate = self.shared();
        self.outsiders.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "io-uring")]
    pub(super) fn outsider_is_done(&self) {
        // Whoever sees it gone must see the end of the file where it left it.
        self.outsiders.fetch_sub(1, Ordering::Release);
    }

    /// Whether the end of the file may move while the gate is held alone. It must not be cut then.
    pub(super) fn has_outsiders(&self) -> bool {
        self.outsiders.load(Ordering::Acquire) > 0
    }

    /// For steps that look first and act later.
    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a change that ends at `end` and looks at nothing before; it goes on beside others of
    /// its kind. In a `direct` file blocks may be written back anywhere, elsewhere only an end
    /// that moves is in danger.
    pub(super) fn beside(&self, end: u64, direct: bool) -> Beside<'_> {
        let extends = end > self.known_end.load(Ordering::Relaxed);
        let others = (direct || extends).then(|| self.shared());
        Beside { order: self, others, end }
    }

    /// Notes that the file was cut or extended. The gate must be held exclusively.
    pub(super) fn moved(&self, len: u64) {
        self.known_end.store(len, Ordering::Relaxed);
    }
}

/// A change in progress.
#[must_use = "the change is protected as long as this lives"]
pub(crate) struct Beside<'a> {
    order: &'a Order,
    /// Absent when nothing can undo the change.
    others: Option<RwLockReadGuard<'a, ()>>,
    end: u64,
}

impl Beside<'_> {
    /// The change has happened, so the file is at least that long.
    pub(crate) fn done(self) {
        if self.others.is_some() {
            self.order.known_end.fetch_max(self.end, Ordering::Relaxed);
        }
    }
}
