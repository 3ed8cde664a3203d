//! The active L1 table in memory: read without locks, changes remembered for the next flush.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use qcow2_format::L1Entry;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Locks so that two threads do not make an L2 table for the same entry.
const MAKER_STRIPES: usize = crate::sync::parts(16);

#[derive(Debug)]
pub(crate) struct L1Table {
    entries: Box<[AtomicU64]>,
    dirty: Mutex<BTreeSet<usize>>,
    makers: [Mutex<()>; MAKER_STRIPES],
}

impl L1Table {
    pub(crate) fn new(entries: impl Iterator<Item = L1Entry>) -> Self {
        Self {
            entries: entries.map(|entry| AtomicU64::new(entry.bits())).collect(),
            dirty: Mutex::default(),
            makers: Default::default(),
        }
    }

    /// The entry, unallocated beyond the end of the table.
    pub(crate) fn get(&self, index: u64) -> L1Entry {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        entry
            .map_or(L1Entry::UNALLOCATED, |entry| L1Entry::from_bits(entry.load(Ordering::Acquire)))
    }

    /// Publishes an entry in memory; the next flush writes it. Ignored beyond the end: the
    /// caller's index comes from a guest offset inside the disk, which the table covers.
    pub(crate) fn publish(&self, index: u64, entry: L1Entry) {
        let Ok(index) = usize::try_from(index) else { return };
        if let Some(slot) = self.entries.get(index) {
            slot.store(entry.bits(), Ordering::Release);
            self.lock_dirty().insert(index);
        }
    }

    /// Held by whoever makes or replaces the L2 table of an entry.
    pub(crate) fn lock_maker(&self, index: u64) -> MutexGuard<'_, ()> {
        let stripe = usize::try_from(index).unwrap_or(0) % MAKER_STRIPES;
        self.makers[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changed entries in index order, which then count as clean.
    pub(crate) fn take_dirty(&self) -> Vec<(usize, L1Entry)> {
        let dirty = std::mem::take(&mut *self.lock_dirty());
        dirty
            .into_iter()
            .map(|index| (index, L1Entry::from_bits(self.entries[index].load(Ordering::Acquire))))
            .collect()
    }

    fn lock_dirty(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
