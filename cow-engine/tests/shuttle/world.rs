//! `World`: an image under a model, with a chronicle of what its threads do.

use std::sync::{Arc, Mutex};

use block_io::MemoryStorage;
use cow_engine::{Backing, Error, Image, ZeroMode};
use testkit::census;
use testkit::stamps::{SECTOR, ZERO, sectors, stamps};

use super::chronicle::Chronicle;
use super::explore::{FEW, explore};
use super::kinds::{Kind, Media};
use super::stepping::Stepping;

/// An image that several threads use.
pub(crate) struct World {
    pub(crate) kind: Kind,
    pub(crate) image: Image,
    media: Media<Stepping>,
    backing: Option<Arc<dyn Backing>>,
    chronicle: Chronicle,
    /// When a flush began, how many syncs had ended when it had, and what was durable then.
    flushed: Mutex<Vec<(u64, usize, Media<MemoryStorage>)>>,
    /// Clusters that nobody but the model knows of.
    leaks: u64,
}

/// What a model begins with.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    pub(crate) media: Media<MemoryStorage>,
    pub(crate) backing: Option<Arc<dyn Backing>>,
    /// Of every sector.
    pub(crate) stamps: Vec<u64>,
    /// Clusters that are counted although nothing in the image points there.
    pub(crate) leaks: u64,
}

impl Start {
    /// A new image.
    pub(crate) fn new(kind: Kind) -> Self {
        let stamps = vec![ZERO; kind.size as usize / SECTOR];
        Self { kind, media: kind.memory(), backing: None, stamps, leaks: 0 }
    }
}

/// Tries interleavings of `threads` on an image that `prepare` has worked on.
pub(crate) fn model(start: fn() -> Start, prepare: fn(&World), threads: Threads) {
    EXPLORED.with(|explored| explored.set(Some((start, prepare, threads))));
    explore(FEW, play);
}

pub(crate) type Threads = &'static [fn(&World)];
type Model = (fn() -> Start, fn(&World), Threads);

std::thread_local! {
    // The checker keeps its threads on the thread of the test.
    static EXPLORED: std::cell::Cell<Option<Model>> = const { std::cell::Cell::new(None) };
}

fn play() {
    let (start, prepare, threads) = EXPLORED.with(std::cell::Cell::get).unwrap();
    let world = World::open(&start());
    prepare(&world);
    shuttle::thread::scope(|scope| {
        for thread in threads {
            scope.spawn(|| thread(&world));
        }
    });
    world.judge();
}

impl World {
    fn open(start: &Start) -> Self {
        let media = start.media.wrapped(|file| Stepping::new(file));
        Self {
            kind: start.kind,
            image: start.kind.open(&media, start.backing.clone()),
            media,
            backing: start.backing.clone(),
            chronicle: Chronicle::new(&start.stamps),
            flushed: Mutex::default(),
            leaks: start.leaks,
        }
    }

    /// Sectors in a cluster.
    fn per_cluster(&self) -> usize {
        self.kind.cluster_bytes() as usize / SECTOR
    }

    /// Notes what one call does to its sectors. A call that fails may have happened or not.
    fn record(
        &self,
        (first, count): (usize, usize),
        stamp: impl FnOnce(u64) -> u64,
        call: impl FnOnce(u64, u64, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stamp = stamp(self.chronicle.now());
        let number = self.chronicle.begin(first, count, stamp);
        let outcome = call(stamp, (first * SECTOR) as u64, (count * SECTOR) as u64);
        match &outcome {
            Ok(()) => self.chronicle.end(first, count, number),
            Err(Error::Allocated { .. }) => self.chronicle.forget(first, count, number),
            Err(_) => {}
        }
        outcome
    }

    pub(crate) fn try_write(&self, first: usize, count: usize) -> Result<(), Error> {
        self.record(
            (first, count),
            |now| now,
            |stamp, at, _| self.image.write_at(at, &sectors(stamp, first, count)),
        )
    }

    /// Writes so many sectors from `first` on.
    pub(crate) fn write(&self, first: usize, count: usize) {
        self.try_write(first, count).unwrap();
    }

    pub(crate) fn zero(&self, first: usize, count: usize, mode: ZeroMode) {
        let zero = |_: u64, at, len| self.image.write_zeroes_at(at, len, mode);
        self.record((first, count), |_| ZERO, zero).unwrap();
    }

    /// Discards whole clusters, so many from one on.
    pub(crate) fn discard(&self, cluster: usize, count: usize) {
        let sectors = (cluster * self.per_cluster(), count * self.per_cluster());
        let discard = |_: u64, at, len| self.image.discard_at(at, len);
        self.record(sectors, |_| ZERO, discard).unwrap();
    }

    /// Writes a cluster compressed, unless it is allocated.
    pub(crate) fn compress(&self, cluster: usize) {
        let (first, count) = (cluster * self.per_cluster(), self.per_cluster());
        let mut compressor = self.image.compressor().unwrap();
        let write = |stamp, at, _| {
            self.image.write_compressed_at(&mut compressor, at, &sectors(stamp, first, count))
        };
        let outcome = self.record((first, count), |now| now, write);
        assert!(matches!(outcome, Ok(()) | Err(Error::Allocated { .. })), "{outcome:?}");
    }

    /// Plans a write, and thinks better of it.
    pub(crate) fn abandon(&self, first: usize, count: usize) {
        drop(self.image.begin_write((first * SECTOR) as u64, (count * SECTOR) as u64).unwrap());
    }

    pub(crate) fn read(&self, first: usize, count: usize) {
        self.chronicle.read(&self.image, first, count);
    }

    pub(crate) fn try_flush(&self) -> Result<(), Error> {
        let begun = self.chronicle.now();
        self.image.flush()?;
        let syncs = self.media.image.durable().len() - 1;
        let durable = self.media.wrapped(|file| file.last_durable());
        self.flushed.lock().unwrap().push((begun, syncs, durable));
        Ok(())
    }

    pub(crate) fn flush(&self) {
        self.try_flush().unwrap();
    }

    /// Changes and syncs of the image file fail: the one after so many others.
    pub(crate) fn fail_after(&self, calls: u64) {
        self.media.image.fail_after(calls);
    }

    /// A power cut right after a sync leaves an image that is right, and shows what was promised.
    fn judge_power_cuts(&self) {
        let flushed = self.flushed.lock().unwrap();
        for (begun, _, durable) in flushed.iter() {
            self.chronicle.check(0, &reopened(durable, &self.backing), *begun);
        }
        for (syncs, image) in self.media.image.durable().into_iter().enumerate() {
            assert_no_loss(&image, "after a sync");
            let promises = flushed.iter().filter(|(_, ended, _)| *ended <= syncs);
            if let Some(begun) = promises.map(|(begun, ..)| *begun).max()
                && self.media.data.is_none()
            {
                let left = Media { image: Arc::new(image), data: None };
                self.chronicle.check(0, &reopened(&left, &self.backing), begun);
            }
        }
    }

    /// The threads are done: everything that they may rely on holds.
    fn judge(self) {
        self.fail_after(u64::MAX);
        self.read(0, self.chronicle.len());
        self.judge_power_cuts();
        let end = self.chronicle.now();
        if self.image.writer().is_err() {
            assert!(self.image.flush().is_err(), "a flush of what was given up");
            assert_no_loss(&self.media.image.now(), "given up");
            return;
        }
        let Self { image, media, backing, chronicle, leaks, .. } = self;
        image.close().unwrap();
        let closed = media.wrapped(|file| file.now());
        assert_eq!(census::assert_no_loss(&*closed.image), leaks, "clusters leak");
        chronicle.check(0, &reopened(&closed, &backing), end);
    }
}

/// What the next session sees.
fn reopened(media: &Media<MemoryStorage>, backing: &Option<Arc<dyn Backing>>) -> Vec<u64> {
    let image = media.open_read_only(backing.clone()).unwrap();
    let mut bytes = vec![0xaa; image.virtual_size() as usize];
    image.read_at(0, &mut bytes).unwrap();
    stamps(&bytes, 0).unwrap()
}

/// Counts are never too low, unless the image says that they may be.
fn assert_no_loss(image: &MemoryStorage, when: &str) {
    assert_eq!(census::take(image).complaint(), None, "{when}");
}
