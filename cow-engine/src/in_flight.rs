//! The clusters in flight: guest ranges whose mapping is being changed right now.
//!
//! Overlapping first writes of one cluster wait for each other here; everything else passes. The
//! list is short (one entry per thread that allocates), so it is scanned.

use std::sync::PoisonError;

use smallvec::SmallVec;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// Guest ranges in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    ranges: Mutex<SmallVec<[Range; 8]>>,
    finished: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

/// Holds a range; dropping it lets the next one in.
#[derive(Debug)]
#[must_use = "the range is given up when this is dropped"]
pub(crate) struct InFlightGuard<'i> {
    table: &'i InFlight,
    range: Range,
}

impl InFlight {
    /// Waits until nobody else is changing `start..end` (guest bytes), then holds it.
    pub(crate) fn hold(&self, start: u64, end: u64) -> InFlightGuard<'_> {
        let range = Range { start, end };
        let mut ranges = self.lock();
        while ranges.iter().any(|other| other.start < end && start < other.end) {
            ranges = self.finished.wait(ranges).unwrap_or_else(PoisonError::into_inner);
        }
        ranges.push(range);
        InFlightGuard { table: self, range }
    }

    /// Holds `start..end` (guest bytes) if nobody else does right now.
    pub(crate) fn try_hold(&self, start: u64, end: u64) -> Option<InFlightGuard<'_>> {
        let range = Range { start, end };
        let mut ranges = self.lock();
        if ranges.iter().any(|other| other.start < end && start < other.end) {
            return None;
        }
        ranges.push(range);
        Some(InFlightGuard { table: self, range })
    }

    fn lock(&self) -> MutexGuard<'_, SmallVec<[Range; 8]>> {
        // The list is valid between any two statements: a panic elsewhere does not break it.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        let mut ranges = self.table.lock();
        if let Some(index) = ranges.iter().position(|range| *range == self.range) {
            ranges.swap_remove(index);
        }
        drop(ranges);
        self.table.finished.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn overlapping_ranges_exclude_each_other() {
        let table = InFlight::default();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let guard = table.hold(0, 10);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(guard);
                    }
                });
            }
        });
        assert!(table.lock().is_empty());
    }

    #[test]
    fn disjoint_ranges_pass() {
        let table = InFlight::default();
        let first = table.hold(0, 10);
        let second = table.hold(10, 20);
        drop((first, second));
    }
}
