//! The table of ranges in flight.

use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::thread;

use crate::in_flight::{InFlight, InFlightGuard};
use crate::models::explore::{MANY, explore};

/// Which units of guest space are held, a bit for each.
#[derive(Default)]
struct Held(AtomicU64);

impl Held {
    /// Uses a range while it is held.
    fn use_range(&self, start: u64, end: u64, guard: InFlightGuard<'_>) {
        let bits = (1 << end) - (1 << start);
        let before = self.0.fetch_or(bits, Ordering::Relaxed);
        assert_eq!(before & bits, 0, "{start}..{end} is held by two");
        thread::yield_now();
        self.0.fetch_and(!bits, Ordering::Relaxed);
        drop(guard);
    }
}

#[test]
fn no_two_hold_the_same_and_nobody_waits_for_ever() {
    explore(MANY, || {
        let (table, held) = (InFlight::default(), Held::default());
        thread::scope(|scope| {
            for (start, end) in [(0, 2), (1, 3), (2, 4), (0, 4)] {
                let (table, held) = (&table, &held);
                scope.spawn(move || {
                    held.use_range(start, end, table.hold(start, end));
                    if let Some(guard) = table.try_hold(start, end) {
                        held.use_range(start, end, guard);
                    }
                });
            }
        });
        assert!(table.try_hold(0, 4).is_some(), "something is still held");
    });
}

#[test]
fn what_does_not_overlap_does_not_wait() {
    explore(MANY, || {
        let table = InFlight::default();
        let _held = table.hold(0, 2);
        // Were it to wait for us, it would wait for ever, and the checker would say so.
        thread::scope(|scope| {
            scope.spawn(|| drop(table.hold(2, 4)));
            scope.spawn(|| assert!(table.try_hold(1, 3).is_none()));
        });
    });
}
