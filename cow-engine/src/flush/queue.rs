//! Who flushes: one thread at a time, for everybody who asked before it began; and the clusters
//! that wait until nobody uses them.

use std::sync::PoisonError;

use crate::allocator::Unpublished;
use crate::error::Result;
use crate::pins::Pins;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The queue of flushes.
#[derive(Debug, Default)]
pub(crate) struct FlushQueue {
    turns: Mutex<Turns>,
    finished: Condvar,
    quarantine: Mutex<Quarantine>,
}

/// Flushes are numbered from 1.
#[derive(Debug, Default)]
struct Turns {
    started: u64,
    completed: u64,
}

#[derive(Debug, Default)]
struct Quarantine {
    /// Unused once this epoch is over.
    waiting: Option<(usize, Vec<Unpublished>)>,
    /// To wait for the epoch after.
    later: Vec<Unpublished>,
}

impl FlushQueue {
    /// Runs `work`, or waits for another thread's flush that begins after this call. A flush that
    /// is already under way may have missed what the caller wrote, so it does not count.
    /// Followers return what `follow` says afterwards.
    pub(crate) fn run(
        &self,
        work: impl FnOnce() -> Result<()>,
        follow: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut turns = lock(&self.turns);
        let mine = turns.started + 1;
        loop {
            if turns.completed >= mine {
                drop(turns);
                return follow();
            }
            if turns.started == turns.completed && turns.started < mine {
                break;
            }
            turns = self.finished.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        turns.started = mine;
        drop(turns);
        let _turn = Turn(self);
        work()
    }

    /// Adds clusters whose entries are gone from disk, and returns those that nobody uses any
    /// more. Called by the flushing thread only.
    pub(crate) fn quarantine(
        &self,
        pins: &Pins,
        unpublished: Vec<Unpublished>,
    ) -> Vec<Unpublished> {
        let mut quarantine = lock(&self.quarantine);
        quarantine.later.extend(unpublished);
        let mut unused = Vec::new();
        loop {
            if let Some((epoch, runs)) = quarantine.waiting.take() {
                if !pins.over(epoch) {
                    quarantine.waiting = Some((epoch, runs));
                    break;
                }
                unused.extend(runs);
            }
            if quarantine.later.is_empty() {
                break;
            }
            let Some(epoch) = pins.turn() else { break };
            let later = std::mem::take(&mut quarantine.later);
            quarantine.waiting = Some((epoch, later));
        }
        unused
    }
}

/// A flush under way; ends it even when it unwinds.
struct Turn<'q>(&'q FlushQueue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.0.turns);
        turns.completed = turns.started;
        drop(turns);
        self.0.finished.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use qcow2_format::HostCluster;
    use refcount::HostRun;

    use super::*;

    #[test]
    fn every_caller_sees_a_flush_that_began_after_its_call() {
        let queue = FlushQueue::default();
        let (clock, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let called = clock.fetch_add(1, Ordering::SeqCst);
                        let work = || {
                            begun.store(clock.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                            Ok(())
                        };
                        queue.run(work, || Ok(())).unwrap();
                        assert!(begun.load(Ordering::SeqCst) > called);
                    }
                });
            }
        });
    }

    #[test]
    fn clusters_in_use_stay_in_quarantine() {
        let (queue, pins) = (FlushQueue::default(), Pins::default());
        let run = |first| Unpublished {
            run: HostRun { first: HostCluster::new(first), count: 1 },
            punch: false,
        };
        let pin = pins.pin();
        assert_eq!(queue.quarantine(&pins, vec![run(7)]), []);
        assert_eq!(queue.quarantine(&pins, vec![run(8)]), []);
        drop(pin);
        assert_eq!(queue.quarantine(&pins, vec![]), [run(7), run(8)]);
    }
}
