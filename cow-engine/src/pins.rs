//! Pins: who is still using host clusters that it looked up earlier.
//!
//! A read or an in-place write looks an entry up and then touches the host cluster. In between,
//! the cluster may lose its last reference. It is then quarantined: not counted down, not handed
//! out, until every operation that may have seen the old entry is over. There are two counters,
//! for operations that began before and after the last turn of the epoch; turning is cheap and
//! nobody ever waits for it.

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicUsize, Ordering};

/// Counter stripes, so that threads do not fight for one cache line.
const STRIPES: usize = crate::sync::parts(16);

#[derive(Debug, Default)]
pub(crate) struct Pins {
    epoch: AtomicUsize,
    counters: [[CachePadded<AtomicUsize>; STRIPES]; 2],
}

/// An operation under way. Dropping it ends the operation.
#[derive(Debug)]
#[must_use = "clusters are only protected while this lives"]
pub(crate) struct Pin<'p>(&'p AtomicUsize);

impl Pins {
    /// Begins an operation: call before looking entries up.
    pub(crate) fn pin(&self) -> Pin<'_> {
        let stripe = crate::sync::thread_number() % STRIPES;
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            let counter: &AtomicUsize = &self.counters[epoch & 1][stripe];
            counter.fetch_add(1, Ordering::SeqCst);
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return Pin(counter);
            }
            // The epoch turned in between: this count may already have been looked at.
            counter.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Turns the epoch if every operation of the one before the last turn is over. Returns the
    /// epoch that ended: once it is [`over`](Pins::over), everything that was unpublished before
    /// this call is unused. Only one thread may turn at a time.
    pub(crate) fn turn(&self) -> Option<usize> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        if !self.over(epoch.wrapping_add(1)) {
            return None;
        }
        self.epoch.store(epoch.wrapping_add(1), Ordering::SeqCst);
        Some(epoch)
    }

    /// Whether no operation of an ended epoch is under way any more.
    pub(crate) fn over(&self, epoch: usize) -> bool {
        self.counters[epoch & 1].iter().all(|counter| counter.load(Ordering::SeqCst) == 0)
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_over_when_its_pins_are_gone() {
        let pins = Pins::default();
        let old = pins.pin();
        let ended = pins.turn().unwrap();
        assert!(!pins.over(ended));
        let new = pins.pin();
        drop(old);
        assert!(pins.over(ended), "a pin of the next epoch does not hold the old one");
        drop(new);
    }

    #[test]
    fn the_epoch_does_not_turn_over_an_unfinished_one() {
        let pins = Pins::default();
        let old = pins.pin();
        assert!(pins.turn().is_some());
        assert!(pins.turn().is_none(), "the pin's counter would be used again");
        drop(old);
        assert!(pins.turn().is_some());
    }
}
