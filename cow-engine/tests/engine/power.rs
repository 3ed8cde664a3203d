//! Power cuts over all files of an image at once: one order of events for the image file and an
//! external data file, durability for each file by its own syncs only.

use std::io::{IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex};

use block_io::{Alignment, Extent, FileId, Lock, MemoryStorage, Result, Storage};
use testkit::{CrashLog, CrashPlan, CrashState, CrashStorage, Epoch, Event, Rng};

use crate::census::{self, Census};
use crate::kinds::Media;

/// What makes a census one of an image that loses data, if anything does: counts may only be too
/// low when the image says so itself.
pub(crate) fn complaint(census: &Census) -> Option<String> {
    match (census.nonsense.is_empty(), census.losses.is_empty() || census.dirty) {
        (true, true) => None,
        (false, _) => Some(format!("CE-2: {:?}", census.nonsense)),
        (true, false) => Some(format!("CE-2, RC-1: {:?}", census.losses)),
    }
}

/// Nothing is wrong with an image that was closed, and it does not say otherwise.
#[track_caller]
pub(crate) fn assert_closed(image: &[u8]) {
    census::assert_clean(image);
    assert!(!census::take(image).dirty, "the image is marked dirty");
}

/// Decides which syncs never reach the medium, by file (0 is the image) and number (from 1).
pub(crate) type Lost = fn(usize, u64) -> bool;

/// All syncs arrive.
pub(crate) fn none_lost(_: usize, _: u64) -> bool {
    false
}

/// The files of an image, with one log over all of them.
#[derive(Debug)]
pub(crate) struct Power {
    media: Media<Clocked>,
    clock: Arc<Clock>,
}

/// After each event, how many events each file has seen.
type Moment = [usize; 2];

#[derive(Debug)]
struct Clock {
    files: Vec<Arc<CrashStorage>>,
    moments: Mutex<Vec<Moment>>,
}

/// One file: its changes happen one after another with those of the other.
#[derive(Debug)]
pub(crate) struct Clocked {
    inner: Arc<CrashStorage>,
    number: usize,
    clock: Arc<Clock>,
    lost: Lost,
    syncs: Mutex<u64>,
}

/// A power cut, and what it left.
pub(crate) struct Left {
    /// Length of the log when the power went.
    pub(crate) position: usize,
    pub(crate) media: Media<MemoryStorage>,
    states: Vec<CrashState>,
}

/// Everything that happened.
pub(crate) struct PowerLog {
    logs: Vec<CrashLog>,
    moments: Vec<Moment>,
}

impl Power {
    /// Begins with what is in these files, all of it durable.
    pub(crate) fn on(start: &Media<MemoryStorage>, lost: Lost) -> Self {
        let recorder = |file: &Arc<MemoryStorage>| Arc::new(CrashStorage::on((**file).clone()));
        let image = recorder(&start.image);
        let data = start.data.as_ref().map(recorder);
        let files = std::iter::once(Arc::clone(&image)).chain(data.clone()).collect();
        let clock = Arc::new(Clock { files, moments: Mutex::default() });
        let clocked = |number, inner| {
            let clock = Arc::clone(&clock);
            Arc::new(Clocked { inner, number, clock, lost, syncs: Mutex::default() })
        };
        let media = Media { image: clocked(0, image), data: data.map(|data| clocked(1, data)) };
        Self { media, clock }
    }

    /// The files, to open the image in.
    pub(crate) fn media(&self) -> &Media<Clocked> {
        &self.media
    }

    /// How many events there were so far, in all files.
    pub(crate) fn position(&self) -> usize {
        self.clock.moments.lock().unwrap().len()
    }

    pub(crate) fn log(&self) -> PowerLog {
        let moments = self.clock.moments.lock().unwrap().clone();
        PowerLog { logs: self.clock.files.iter().map(|file| file.log()).collect(), moments }
    }
}

impl PowerLog {
    /// Judges states after power cuts at every sync and at the end, up to `states_max` for each;
    /// returns how many there were, and the first complaint.
    pub(crate) fn check(
        &self,
        states_max: usize,
        mut judge: impl FnMut(&Left) -> std::result::Result<(), String>,
    ) -> (usize, Option<String>) {
        let mut count = 0;
        for position in self.cuts() {
            let cut = position.checked_sub(1).map_or([0; 2], |last| self.moments[last]);
            let epochs: Vec<Epoch<'_>> =
                self.logs.iter().zip(cut).map(|(log, cut)| log.at(cut)).collect();
            for states in combinations(&epochs, states_max) {
                let mut left = epochs
                    .iter()
                    .zip(&states)
                    .map(|(epoch, state)| Arc::new(epoch.materialise(state)));
                let image = left.next().unwrap();
                let media = Media { image, data: left.next() };
                let left = Left { position, media, states };
                count += 1;
                if let Err(text) = judge(&left) {
                    return (count, Some(format!("{}: {text}", left.describe(&epochs))));
                }
            }
        }
        (count, None)
    }

    /// The events in words, those of the data file marked as such.
    pub(crate) fn text(&self) -> String {
        let mut before = [0; 2];
        let mut text = String::new();
        for moment in &self.moments {
            let file = (0..2).find(|&file| moment[file] != before[file]).unwrap();
            let name = if file == 0 { "image     " } else { "data file " };
            text.push_str(&format!("{name} {}\n", self.logs[file].events()[before[file]]));
            before = *moment;
        }
        text
    }

    /// The telling moments for a power cut: earlier ones leave nothing that these do not.
    fn cuts(&self) -> impl Iterator<Item = usize> {
        (0..=self.moments.len()).filter(|&position| {
            let before = position.checked_sub(1).map_or([0; 2], |last| self.moments[last]);
            let Some(after) = self.moments.get(position) else { return true };
            let happened = |file: &usize| after[*file] != before[*file];
            let file = (0..self.logs.len()).find(happened).unwrap();
            self.logs[file].events()[before[file]] == Event::Sync
        })
    }
}

impl Left {
    fn describe(&self, epochs: &[Epoch<'_>]) -> String {
        let texts = epochs.iter().zip(&self.states).map(|(epoch, state)| epoch.describe(state));
        format!("cut at {}: {}", self.position, texts.collect::<Vec<_>>().join("; data file: "))
    }
}

/// Up to `states_max` combinations of what may have become of each file.
fn combinations(epochs: &[Epoch<'_>], states_max: usize) -> Vec<Vec<CrashState>> {
    let plan = CrashPlan { states_max, ..CrashPlan::default() };
    let states: Vec<Vec<CrashState>> = epochs.iter().map(|epoch| epoch.states(&plan)).collect();
    let [image, data] = &states[..] else {
        return states.into_iter().flatten().map(|state| vec![state]).collect();
    };
    let pair = |(one, other): (usize, usize)| vec![image[one].clone(), data[other].clone()];
    if image.len() * data.len() <= states_max {
        let all = (0..image.len()).flat_map(|one| (0..data.len()).map(move |other| (one, other)));
        return all.map(pair).collect();
    }
    // The first two of each are the extremes where states were sampled.
    let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let mut rng = Rng::new(states_max as u64);
    let mut any = |states: &[CrashState]| rng.below(states.len() as u64) as usize;
    let others: Vec<_> = (0..states_max).map(|_| (any(image), any(data))).collect();
    let corners =
        corners.into_iter().filter(|(one, other)| *one < image.len() && *other < data.len());
    corners.chain(others).take(states_max).map(pair).collect()
}

impl Clocked {
    /// Makes a change while no other file changes.
    fn change<T>(&self, run: impl FnOnce(&CrashStorage) -> Result<T>) -> Result<T> {
        let mut moments = self.clock.moments.lock().unwrap();
        let before = self.inner.position();
        let answer = run(&self.inner)?;
        if self.inner.position() != before {
            let mut moment = [0; 2];
            for (seen, file) in moment.iter_mut().zip(&self.clock.files) {
                *seen = file.position();
            }
            moments.push(moment);
        }
        Ok(answer)
    }
}

impl Storage for Clocked {
    fn len(&self) -> Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, buf)
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.inner.read_vectored_at(offset, bufs)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.change(|inner| inner.write_at(offset, buf))
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        self.change(|inner| inner.write_vectored_at(offset, bufs))
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.change(|inner| inner.write_zeroes_at(offset, len))
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        self.change(|inner| inner.punch_hole(offset, len))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.change(|inner| inner.allocate(offset, len))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(|inner| inner.set_len(len))
    }

    fn sync(&self) -> Result<()> {
        let mut syncs = self.syncs.lock().unwrap();
        *syncs += 1;
        if (self.lost)(self.number, *syncs) {
            return Ok(());
        }
        drop(syncs);
        self.change(Storage::sync)
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.inner.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.inner.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.inner.identity()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.inner.lock(lock)
    }
}
