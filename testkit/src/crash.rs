//! `CrashStorage`: remembers every change, so that the states a power cut may leave behind can be
//! made afterwards.
//!
//! The medium that is modelled: a `sync` that returned has made durable everything before it. Of
//! the changes since then each one may have reached the medium or not, in any combination,
//! whatever their order; one that touches several sectors of 512 bytes may have reached some of
//! them only. A sector is old or new, never a mix. A cut or an extension happens or does not; a
//! write behind the end may leave the new length without its bytes.
//!
//! [`CrashFiles`] does the same for several objects with one order of events, each with syncs of its
//! own.

use core::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_io::{Alignment, Extent, FileId, Lock, MemoryStorage, Result, Storage};

mod files;
mod plan;
mod state;
#[cfg(test)]
mod tests;

pub use files::{CrashFile, CrashFiles, CrashFilesLog, Cut, CutState, LostSync};
pub use plan::CrashPlan;
pub use state::{CrashState, Epoch, Fate, Tear};

/// What the medium writes whole or not at all, in bytes.
pub const SECTOR_BYTES: u64 = 512;

/// A change, or a promise that all changes before it are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Bytes were written.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// A range was zeroed.
    WriteZeroes {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// A range was given back.
    PunchHole {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// A range was reserved, which may move the end.
    Allocate {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// The object was cut or extended.
    SetLen {
        /// To how many bytes.
        len: u64,
    },
    /// Everything before is durable.
    Sync,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { offset, bytes } => write!(f, "write {:#x}+{:#x}", offset, bytes.len()),
            Self::WriteZeroes { offset, len } => write!(f, "zero {offset:#x}+{len:#x}"),
            Self::PunchHole { offset, len } => write!(f, "punch {offset:#x}+{len:#x}"),
            Self::Allocate { offset, len } => write!(f, "allocate {offset:#x}+{len:#x}"),
            Self::SetLen { len } => write!(f, "set length {len:#x}"),
            Self::Sync => f.write_str("sync"),
        }
    }
}

/// An object in memory that keeps a log of what happened to it.
///
/// Changes happen one after another, in the order of the log; reads go on beside them.
#[derive(Debug)]
pub struct CrashStorage {
    /// What was durable when the log began.
    initial: MemoryStorage,
    /// What readers see.
    current: MemoryStorage,
    log: Mutex<Vec<Event>>,
}

impl CrashStorage {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::on(MemoryStorage::new())
    }

    /// Begins with what is in `initial`, all of it durable.
    #[must_use]
    pub fn on(initial: MemoryStorage) -> Self {
        Self { current: initial.clone(), initial, log: Mutex::default() }
    }

    /// How many events the log has. Noted after a flush, it says which states must have what was
    /// flushed: those of which [`CrashState::cut`] is not smaller.
    #[must_use]
    pub fn position(&self) -> usize {
        self.events().len()
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> CrashLog {
        CrashLog { initial: self.initial.clone(), events: self.events().clone() }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and logs it unless it was refused. The log stays locked meanwhile, so that
    /// its order is the order in which changes happened.
    fn change<T>(&self, event: Event, run: impl FnOnce(&MemoryStorage) -> Result<T>) -> Result<T> {
        let mut events = self.events();
        let answer = run(&self.current)?;
        if !event.is_empty() {
            events.push(event);
        }
        Ok(answer)
    }
}

impl Event {
    /// The range that is changed, for events that have one.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Write { offset, bytes } => Some((*offset, bytes.len() as u64)),
            Self::WriteZeroes { offset, len } | Self::PunchHole { offset, len } => {
                Some((*offset, *len))
            }
            Self::Allocate { .. } | Self::SetLen { .. } | Self::Sync => None,
        }
    }

    /// Whether the event is a request for no bytes, which changes nothing.
    fn is_empty(&self) -> bool {
        matches!(self, Self::Allocate { len: 0, .. })
            || self.range().is_some_and(|(_, len)| len == 0)
    }
}

impl Default for CrashStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for CrashStorage {
    fn len(&self) -> Result<u64> {
        self.current.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.current.read_at(offset, buf)
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.current.read_vectored_at(offset, bufs)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let event = Event::Write { offset, bytes: buf.into() };
        self.change(event, |current| current.write_at(offset, buf))
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.write_at(offset, &bytes)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        let event = Event::WriteZeroes { offset, len };
        self.change(event, |current| current.write_zeroes_at(offset, len))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        let event = Event::PunchHole { offset, len };
        self.change(event, |current| current.punch_hole(offset, len))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let event = Event::Allocate { offset, len };
        self.change(event, |current| current.allocate(offset, len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(Event::SetLen { len }, |current| current.set_len(len))
    }

    fn sync(&self) -> Result<()> {
        self.change(Event::Sync, Storage::sync)
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.current.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.current.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.current.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.current.identity()
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    /// Promises nothing, so a power cut knows nothing of it.
    fn begin_sync(&self) {}

    fn modified(&self) -> Result<Option<i64>> {
        self.current.modified()
    }

    fn is_read_only(&self) -> bool {
        self.current.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.current.lock(lock)
    }
}

/// Everything that happened to a [`CrashStorage`], from which states after a power cut are made.
#[derive(Clone, Debug)]
pub struct CrashLog {
    initial: MemoryStorage,
    events: Vec<Event>,
}

impl CrashLog {
    /// The events, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The power cut after the first `cut` events: what is durable then and what is pending.
    ///
    /// # Panics
    /// There are fewer events.
    #[must_use]
    pub fn at(&self, cut: usize) -> Epoch<'_> {
        let issued = &self.events[..cut];
        let durable = issued.iter().rposition(|event| *event == Event::Sync).map_or(0, |at| at + 1);
        let base = self.initial.clone();
        for event in &issued[..durable] {
            state::apply(&base, event, Fate::Applied);
        }
        Epoch { durable, base, pending: &issued[durable..] }
    }

    /// The latest power cut of each epoch: just before each sync, and at the end of the log.
    ///
    /// Earlier cuts have no states of their own, since a change that was not issued yet leaves
    /// what a dropped one leaves.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch<'_>> {
        let base = self.initial.clone();
        let mut done = Some(0);
        core::iter::from_fn(move || {
            let durable = done?;
            let rest = &self.events[durable..];
            let sync = rest.iter().position(|event| *event == Event::Sync);
            let pending = &rest[..sync.unwrap_or(rest.len())];
            let epoch = Epoch { durable, base: base.clone(), pending };
            for event in pending {
                state::apply(&base, event, Fate::Applied);
            }
            done = sync.map(|sync| durable + sync + 1);
            Some(epoch)
        })
    }

    /// Runs `check` on the states of every epoch that `plan` chooses and returns how many there
    /// were. When `check` panics, the state that it was given goes to standard error.
    pub fn check_states(
        &self,
        plan: &CrashPlan,
        mut check: impl FnMut(&CrashState, MemoryStorage),
    ) -> usize {
        let mut count = 0;
        for epoch in self.epochs() {
            for state in epoch.states(plan) {
                let described = Described(epoch.describe(&state));
                check(&state, epoch.materialise(&state));
                drop(described);
                count += 1;
            }
        }
        count
    }
}

/// Prints its text when a panic passes by.
struct Described(String);

impl Drop for Described {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("state after the power cut: {}", self.0);
        }
    }
}
