//! Pins and the quarantine of clusters that may still be in use.

use qcow2_format::HostCluster;
use refcount::HostRun;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::allocator::Unpublished;
use crate::flush::FlushQueue;
use crate::models::explore::{MANY, explore};
use crate::pins::Pins;

/// A guest cluster whose data moves from host cluster to host cluster.
struct Moving {
    pins: Pins,
    queue: FlushQueue,
    entry: AtomicU64,
    /// A bit for each host cluster that was given back.
    given_back: AtomicU64,
}

impl Moving {
    fn use_it(&self) {
        let pin = self.pins.pin();
        let host = self.entry.load(Ordering::SeqCst);
        thread::yield_now();
        let given_back = self.given_back.load(Ordering::SeqCst);
        assert_eq!(given_back & 1 << host, 0, "host cluster {host} was given back");
        drop(pin);
    }

    fn quarantine(&self, clusters: &[u64]) {
        let run = |&first| HostRun { first: HostCluster::new(first), count: 1 };
        let clusters = clusters.iter().map(|first| Unpublished { run: run(first), punch: false });
        for unused in self.queue.quarantine(&self.pins, clusters.collect()) {
            self.given_back.fetch_or(1 << unused.run.first.get(), Ordering::SeqCst);
        }
    }
}

#[test]
fn nothing_is_given_back_that_somebody_uses() {
    explore(MANY, || {
        let moving = Moving {
            pins: Pins::default(),
            queue: FlushQueue::default(),
            entry: AtomicU64::new(1),
            given_back: AtomicU64::new(0),
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    moving.use_it();
                    moving.use_it();
                });
            }
            scope.spawn(|| {
                for host in 2..6 {
                    let old = moving.entry.swap(host, Ordering::SeqCst);
                    moving.quarantine(&[old]);
                }
            });
        });
        moving.quarantine(&[]);
        assert_eq!(moving.given_back.load(Ordering::SeqCst), 0b1_1110, "all but the last");
    });
}
