//! The queue of flushes.

use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::thread;

use crate::error::Error;
use crate::flush::FlushQueue;
use crate::models::explore::{MANY, explore};

#[test]
fn a_flush_covers_what_ended_before_it_was_asked_for() {
    explore(MANY, || {
        let queue = FlushQueue::default();
        // What was written, and how much of it was when a flush that has ended began.
        let (written, durable, under_way) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let flush = || {
            let work = || {
                assert_eq!(under_way.fetch_add(1, Ordering::Relaxed), 0, "two at once");
                let seen = written.load(Ordering::Relaxed);
                thread::yield_now();
                durable.store(seen, Ordering::Relaxed);
                under_way.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            };
            queue.run(work, || Ok(())).unwrap();
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        let mine = written.fetch_add(1, Ordering::Relaxed) + 1;
                        thread::yield_now();
                        flush();
                        assert!(durable.load(Ordering::Relaxed) >= mine, "not in that flush");
                    }
                });
            }
        });
    });
}

#[test]
fn who_follows_hears_of_the_failure_and_nobody_is_left_waiting() {
    explore(MANY, || {
        let queue = FlushQueue::default();
        let failed = AtomicU64::new(0);
        let follow = || match failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::MarkedCorrupt),
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let work = || {
                        thread::yield_now();
                        failed.store(1, Ordering::Relaxed);
                        Err(Error::MarkedCorrupt)
                    };
                    assert!(queue.run(work, follow).is_err());
                });
            }
        });
    });
}
