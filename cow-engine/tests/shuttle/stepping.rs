//! `Stepping`: a storage in memory of which every call is two steps, before it and after it. It knows
//! what a power cut would leave at worst, and can be told to fail.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use block_io::{Alignment, Error, Extent, FileId, Lock, MemoryStorage, Operation, Result, Storage};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::yield_now;

/// One file of a model.
#[derive(Debug)]
pub(crate) struct Stepping {
    now: MemoryStorage,
    /// What was there when each sync that has ended began, after what was there at first.
    durable: Mutex<Vec<MemoryStorage>>,
    /// Changes and syncs until one fails.
    until_failure: AtomicU64,
}

impl Stepping {
    pub(crate) fn new(start: &MemoryStorage) -> Self {
        Self {
            now: start.clone(),
            durable: Mutex::new(vec![start.clone()]),
            until_failure: AtomicU64::new(u64::MAX),
        }
    }

    /// The file as it is.
    pub(crate) fn now(&self) -> MemoryStorage {
        self.now.clone()
    }

    /// The file as it would be after power cuts that take all that was not synced: one for each sync
    /// so far, and one before the first.
    pub(crate) fn durable(&self) -> Vec<MemoryStorage> {
        self.durable.lock().unwrap().clone()
    }

    /// The last of these.
    pub(crate) fn last_durable(&self) -> MemoryStorage {
        self.durable.lock().unwrap().last().unwrap().clone()
    }

    /// From now on a change or sync fails: the one after so many others.
    pub(crate) fn fail_after(&self, calls: u64) {
        self.until_failure.store(calls, Ordering::Relaxed);
    }

    fn step<T>(call: impl FnOnce() -> T) -> T {
        wait();
        let answer = call();
        wait();
        answer
    }

    fn change<T>(&self, operation: Operation, call: impl FnOnce() -> Result<T>) -> Result<T> {
        Self::step(|| {
            let left = self.until_failure.load(Ordering::Relaxed);
            if left != u64::MAX {
                self.until_failure.store(left.wrapping_sub(1), Ordering::Relaxed);
            }
            match left {
                0 => {
                    let source = Arc::new(std::io::ErrorKind::StorageFull.into());
                    Err(Error::Io { operation, offset: None, len: None, source })
                }
                _ => call(),
            }
        })
    }
}

/// Lets others go on: mostly for a step, sometimes for as long as a whole flush of theirs takes.
fn wait() {
    let steps = if thread_rng().gen_ratio(1, 12) { 400 } else { 1 };
    (0..steps).for_each(|_| yield_now());
}

impl Storage for Stepping {
    fn len(&self) -> Result<u64> {
        Self::step(|| self.now.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Self::step(|| self.now.read_at(offset, buf))
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        Self::step(|| self.now.read_vectored_at(offset, bufs))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.change(Operation::Write, || self.now.write_at(offset, buf))
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        self.change(Operation::Write, || self.now.write_vectored_at(offset, bufs))
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.change(Operation::Write, || self.now.write_zeroes_at(offset, len))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        Self::step(|| self.now.punch_hole(offset, len))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.change(Operation::Write, || self.now.allocate(offset, len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(Operation::Write, || self.now.set_len(len))
    }

    fn sync(&self) -> Result<()> {
        self.change(Operation::Sync, || {
            let begun = self.now.clone();
            wait();
            self.durable.lock().unwrap().push(begun);
            Ok(())
        })
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        Self::step(|| self.now.extent_at(offset))
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.now.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.now.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.now.identity()
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}
    fn begin_sync(&self) {}
    fn modified(&self) -> Result<Option<i64>> {
        self.now.modified()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.now.lock(lock)
    }
}
