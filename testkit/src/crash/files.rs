//! `CrashFiles`: power cuts over several objects at once, with one order of events over all of them.

use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_io::{Alignment, Extent, FileId, Lock, MemoryStorage, Result, Storage};

use super::plan::{Pending, choose};
use super::state::apply;
use super::{CrashPlan, Event, Fate};

/// Decides which syncs return without having done anything, by file and number (from 1): for tests
/// that must notice.
pub type LostSync = fn(usize, u64) -> bool;

/// Several objects, with one log over all of them.
#[derive(Debug)]
pub struct CrashFiles {
    files: Vec<Arc<CrashFile>>,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<(usize, Event)>>);

/// One of several objects: its changes happen one after another with those of the others.
#[derive(Debug)]
pub struct CrashFile {
    number: usize,
    initial: MemoryStorage,
    current: MemoryStorage,
    log: Arc<Log>,
    lost: LostSync,
    syncs: Mutex<u64>,
    /// The host takes space back.
    punches: bool,
}

/// Everything that happened to [`CrashFiles`].
#[derive(Clone, Debug)]
pub struct CrashFilesLog {
    initial: Vec<MemoryStorage>,
    events: Vec<(usize, Event)>,
}

/// A power cut over all files: what is durable of each, and which changes are pending.
#[derive(Debug)]
pub struct Cut<'l> {
    position: usize,
    bases: Vec<MemoryStorage>,
    /// Pending changes by their place in the log, oldest first.
    pending: Vec<(usize, &'l (usize, Event))>,
}

/// What became of each pending change of a [`Cut`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CutState {
    fates: Vec<Fate>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Event)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CrashFiles {
    /// Begins with what is in these objects, all of it durable.
    #[must_use]
    pub fn on(initial: impl IntoIterator<Item = MemoryStorage>) -> Self {
        Self::losing(initial, |_, _| false)
    }

    /// The same; some syncs are lost.
    #[must_use]
    pub fn losing(initial: impl IntoIterator<Item = MemoryStorage>, lost: LostSync) -> Self {
        Self::with(initial, lost, true)
    }

    /// The same; a host that does not take space back leaves the bytes where they are.
    #[must_use]
    pub fn with(
        initial: impl IntoIterator<Item = MemoryStorage>,
        lost: LostSync,
        punches: bool,
    ) -> Self {
        let log = Arc::<Log>::default();
        let file = |(number, initial): (usize, MemoryStorage)| {
            let (current, log) = (initial.clone(), Arc::clone(&log));
            let syncs = Mutex::default();
            Arc::new(CrashFile { number, initial, current, log, lost, syncs, punches })
        };
        Self { files: initial.into_iter().enumerate().map(file).collect(), log }
    }

    /// The objects, in the order in which they were given.
    #[must_use]
    pub fn files(&self) -> &[Arc<CrashFile>] {
        &self.files
    }

    /// How many events there were so far, in all files.
    #[must_use]
    pub fn position(&self) -> usize {
        self.log.lock().len()
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> CrashFilesLog {
        let initial = self.files.iter().map(|file| file.initial.clone()).collect();
        CrashFilesLog { initial, events: self.log.lock().clone() }
    }
}

impl CrashFilesLog {
    /// The events, oldest first, each with the number of its file.
    #[must_use]
    pub fn events(&self) -> &[(usize, Event)] {
        &self.events
    }

    /// The telling power cuts: just before each sync of any file, and at the end. Earlier ones leave
    /// nothing that these do not.
    pub fn cuts(&self) -> impl Iterator<Item = Cut<'_>> {
        let bases = self.initial.clone();
        let mut pending: Vec<(usize, &(usize, Event))> = Vec::new();
        let mut next = Some(0);
        core::iter::from_fn(move || {
            let from = next?;
            let is_sync = |(_, event): &(usize, Event)| *event == Event::Sync;
            let sync = self.events[from..].iter().position(is_sync).map(|skip| from + skip);
            let position = sync.unwrap_or(self.events.len());
            pending.extend((from..position).map(|at| (at, &self.events[at])));
            let cut = Cut { position, bases: bases.clone(), pending: pending.clone() };
            if let Some(sync) = sync {
                let file = self.events[sync].0;
                pending.retain(|(_, (of, event))| {
                    if *of == file {
                        apply(&bases[file], event, Fate::Applied);
                    }
                    *of != file
                });
            }
            next = sync.map(|sync| sync + 1);
            Some(cut)
        })
    }

    /// The events in words, one line each.
    #[must_use]
    pub fn text(&self, names: &[&str]) -> String {
        self.events.iter().map(|(file, event)| format!("{} {event}\n", names[*file])).collect()
    }
}

impl Cut<'_> {
    /// Position in the log at which the power goes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many changes may or may not have reached their medium.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The states that `plan` chooses, each once.
    #[must_use]
    pub fn states(&self, plan: &CrashPlan) -> Vec<CutState> {
        let lens: Vec<u64> = self.bases.iter().map(|base| base.len().unwrap()).collect();
        let pending: Vec<_> = self
            .pending
            .iter()
            .map(|(_, (file, event))| Pending::new(event, lens[*file]))
            .collect();
        let fates = choose(plan, self.position as u64, &pending);
        fates.into_iter().map(|fates| CutState { fates }).collect()
    }

    /// What the media hold in that state.
    #[must_use]
    pub fn materialise(&self, state: &CutState) -> Vec<MemoryStorage> {
        let files = self.bases.clone();
        for ((_, (file, event)), &fate) in self.pending.iter().zip(&state.fates) {
            apply(&files[*file], event, fate);
        }
        files
    }

    /// The state in words: position, change and fate of what is pending, one line each.
    #[must_use]
    pub fn describe(&self, state: &CutState, names: &[&str]) -> String {
        let mut text = format!("power cut after {} events, of which are pending", self.position);
        for ((at, (file, event)), fate) in self.pending.iter().zip(&state.fates) {
            let _ = write!(text, "\n  {at} {} {event}: {fate:?}", names[*file]);
        }
        text
    }
}

impl CutState {
    /// The state in which every pending change has the same fate.
    #[must_use]
    pub fn all(fate: Fate, cut: &Cut<'_>) -> Self {
        Self { fates: vec![fate; cut.pending.len()] }
    }
}

impl CrashFile {
    /// Makes a change and logs it unless it was refused. The log stays locked meanwhile, so that
    /// its order is the order in which changes happened.
    fn change<T>(&self, event: Event, run: impl FnOnce(&MemoryStorage) -> Result<T>) -> Result<T> {
        let mut log = self.log.lock();
        let answer = run(&self.current)?;
        if !event.is_empty() {
            log.push((self.number, event));
        }
        Ok(answer)
    }

    /// Whether the sync that is under way is one of those that are lost.
    fn loses_sync(&self) -> bool {
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        *syncs += 1;
        (self.lost)(self.number, *syncs)
    }

    /// What readers see now.
    #[must_use]
    pub fn current(&self) -> &MemoryStorage {
        &self.current
    }
}

impl Storage for CrashFile {
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
        if !self.punches {
            return Ok(false);
        }
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
        if self.loses_sync() {
            return Ok(());
        }
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
