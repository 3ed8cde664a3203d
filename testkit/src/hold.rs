//! `HoldStorage`: stops calls in their tracks, so that a race can be played move by move.

use core::ops::Range;
use core::time::Duration;
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use block_io::{Alignment, Extent, FileId, Lock, Result, Storage};

use crate::{Call, CallSet};

/// How long a test waits for another thread before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A storage around another one. Calls that match what is held wait, before they have any
/// effect, until they are released; all others pass.
#[derive(Debug)]
pub struct HoldStorage<S> {
    inner: S,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Option<(CallSet, Range<u64>)>,
    /// Calls that wait at this moment.
    waiting: usize,
    /// Counts releases: who waits knows by it that its own release has come.
    releases: u64,
}

impl<S> HoldStorage<S> {
    /// Passes everything on to `inner` until told otherwise.
    pub fn new(inner: S) -> Self {
        Self { inner, state: Mutex::default(), changed: Condvar::new() }
    }

    /// From now on calls in `calls` wait.
    pub fn hold(&self, calls: CallSet) {
        self.hold_range(calls, 0..u64::MAX);
    }

    /// From now on calls in `calls` wait if they touch `range` (in bytes) or have no place.
    pub fn hold_range(&self, calls: CallSet, range: Range<u64>) {
        self.state().held = Some((calls, range));
    }

    /// Waits until `count` calls wait.
    ///
    /// # Panics
    /// They do not come in time.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        let too_few = |state: &mut State| state.waiting < count;
        let answer = self.changed.wait_timeout_while(self.state(), PATIENCE, too_few);
        let (state, _) = answer.unwrap_or_else(PoisonError::into_inner);
        let waiting = state.waiting;
        drop(state);
        assert!(waiting >= count, "{waiting} calls wait, {count} were expected");
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Lets all waiting calls go on and holds no more.
    pub fn release(&self) {
        let mut state = self.state();
        state.held = None;
        state.releases += 1;
        self.changed.notify_all();
    }

    /// The storage that calls are passed on to.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits if the call is held. A call without a place is given the whole object.
    fn enter(&self, call: Call, offset: u64, len: u64) {
        let mut state = self.state();
        let end = offset.saturating_add(len);
        let is_held = state.held.as_ref().is_some_and(|(calls, range)| {
            calls.contains(call) && offset < range.end && range.start < end
        });
        if !is_held {
            return;
        }
        let ticket = state.releases;
        state.waiting += 1;
        self.changed.notify_all();
        let still_held = |state: &mut State| state.releases == ticket;
        let mut state =
            self.changed.wait_while(state, still_held).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }

    fn enter_anywhere(&self, call: Call) {
        self.enter(call, 0, u64::MAX);
    }
}

impl<S: Storage> Storage for HoldStorage<S> {
    fn len(&self) -> Result<u64> {
        self.enter_anywhere(Call::Len);
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.enter(Call::Read, offset, buf.len() as u64);
        self.inner.read_at(offset, buf)
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.enter(Call::Read, offset, bufs.iter().map(|buf| buf.len() as u64).sum());
        self.inner.read_vectored_at(offset, bufs)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.enter(Call::Write, offset, buf.len() as u64);
        self.inner.write_at(offset, buf)
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        self.enter(Call::Write, offset, bufs.iter().map(|buf| buf.len() as u64).sum());
        self.inner.write_vectored_at(offset, bufs)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.enter(Call::WriteZeroes, offset, len);
        self.inner.write_zeroes_at(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        self.enter(Call::PunchHole, offset, len);
        self.inner.punch_hole(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.enter(Call::Allocate, offset, len);
        self.inner.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.enter_anywhere(Call::SetLen);
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        self.enter_anywhere(Call::Sync);
        self.inner.sync()
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.enter(Call::Extent, offset, 1);
        self.inner.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.enter_anywhere(Call::Attributes);
        self.inner.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.enter_anywhere(Call::Attributes);
        self.inner.identity()
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    fn begin_sync(&self) {}

    fn modified(&self) -> Result<Option<i64>> {
        self.enter_anywhere(Call::Attributes);
        self.inner.modified()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.enter_anywhere(Call::Lock);
        self.inner.lock(lock)
    }
}

#[cfg(test)]
mod tests {
    use block_io::{MemoryStorage, conformance};

    use super::*;

    #[test]
    fn without_a_hold_it_conforms() {
        conformance::all(|| HoldStorage::new(MemoryStorage::new()));
    }

    #[test]
    fn a_held_write_waits_while_others_pass() {
        let storage = HoldStorage::new(MemoryStorage::from(&b"........"[..]));
        storage.hold_range(CallSet::CHANGES, 0..4);
        std::thread::scope(|scope| {
            scope.spawn(|| storage.write_at(3, b"held").unwrap());
            storage.wait_for(1);
            storage.write_at(4, b"pass").unwrap();
            assert_eq!(storage.inner().to_vec(), b"....pass");
            assert_eq!(storage.waiting(), 1);
            storage.release();
        });
        assert_eq!(storage.inner().to_vec(), b"...helds");
        assert_eq!(storage.waiting(), 0);
        storage.write_at(0, b"free").unwrap();
    }
}
