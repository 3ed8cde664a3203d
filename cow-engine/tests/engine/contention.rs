//! Many threads on the same few clusters, each doing anything to anything: every sector shows the
//! last write that ended, or one that nothing has followed yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use block_io::MemoryStorage;
use cow_engine::{Backing, Error, Image, Preallocation, ZeroMode};
use testkit::Rng;

use crate::chronicle::Chronicle;
use crate::images;
use crate::kinds::{Data, Kind, Media};
use crate::power::assert_closed;
use crate::stamps::{SECTOR, ZERO, sectors};
use crate::test_backing::TestBacking;

/// Stamp of what lies below.
const BELOW: u64 = 1 << 40;

/// An image that several threads fight for.
pub(crate) struct Arena<'i> {
    pub(crate) kind: Kind,
    pub(crate) image: &'i Image,
    pub(crate) chronicle: &'i Chronicle,
}

impl Arena<'_> {
    /// Any range; short ones, and whole clusters and subclusters, more often.
    fn range(&self, rng: &mut Rng) -> (usize, usize) {
        let count = self.chronicle.len();
        let per_cluster = self.kind.cluster_bytes() as usize / SECTOR;
        let first = rng.below(count as u64) as usize;
        let len = 1 + match rng.below(3) {
            0 => 0,
            1 => rng.below(4) as usize,
            _ => rng.below(2 * per_cluster as u64) as usize,
        };
        if rng.one_in(4) {
            let first = first - first % per_cluster;
            return (first, per_cluster.min(count - first));
        }
        (first, len.min(count - first))
    }

    /// What a discard makes zeros: whole clusters.
    fn discarded(&self, first: usize, count: usize) -> (usize, usize) {
        let per_cluster = self.kind.cluster_bytes() as usize / SECTOR;
        let end = first + count;
        let end = if end == self.chronicle.len() { end } else { end / per_cluster * per_cluster };
        let first = first.next_multiple_of(per_cluster).min(end);
        (first, end - first)
    }

    /// Does anything, noted under a stamp that nobody else uses.
    pub(crate) fn step(&self, rng: &mut Rng, stamp: u64) {
        let (first, count) = self.range(rng);
        let (at, len) = ((first * SECTOR) as u64, (count * SECTOR) as u64);
        let record = |first: usize, count: usize, stamp: u64, run: &dyn Fn()| {
            let number = self.chronicle.begin(first, count, stamp);
            run();
            self.chronicle.end(first, count, number);
        };
        match rng.below(20) {
            0 | 1 => self.image.flush().unwrap(),
            2..5 => {
                let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                record(first, count, ZERO, &|| self.image.write_zeroes_at(at, len, mode).unwrap());
            }
            5..8 => {
                let (first, whole) = self.discarded(first, count);
                record(first, whole, ZERO, &|| self.image.discard_at(at, len).unwrap());
            }
            8 if self.kind.data == Data::Inside => self.compress(first, stamp),
            9 => drop(self.image.begin_write(at, len).unwrap()),
            10..12 => self.chronicle.read(self.image, first, count),
            _ => {
                let bytes = sectors(stamp, first, count);
                record(first, count, stamp, &|| self.image.write_at(at, &bytes).unwrap());
            }
        }
    }

    fn compress(&self, first: usize, stamp: u64) {
        let count = self.kind.cluster_bytes() as usize / SECTOR;
        let first = first - first % count;
        if first + count > self.chronicle.len() {
            return;
        }
        let mut compressor = self.image.compressor().unwrap();
        let number = self.chronicle.begin(first, count, stamp);
        let bytes = sectors(stamp, first, count);
        match self.image.write_compressed_at(&mut compressor, (first * SECTOR) as u64, &bytes) {
            Ok(()) => self.chronicle.end(first, count, number),
            Err(Error::Allocated { .. }) => self.chronicle.forget(first, count, number),
            Err(error) => panic!("{error}"),
        }
    }
}

fn fight(kind: Kind, media: &Media<MemoryStorage>, below: usize, rng: &mut Rng, steps: u64) {
    let mut start = vec![ZERO; kind.size as usize / SECTOR];
    start[..below].fill(BELOW);
    fight_from(kind, media, &start, below, rng, steps);
}

/// Begins with an image that shows the stamps `start`, over so many sectors.
pub(crate) fn fight_from(
    kind: Kind,
    media: &Media<MemoryStorage>,
    start: &[u64],
    below: usize,
    rng: &mut Rng,
    steps: u64,
) {
    const THREADS: u64 = 5;
    eprintln!("{kind:?}");
    let count = start.len();
    let backing = (below > 0)
        .then(|| Arc::new(TestBacking::new(sectors(BELOW, 0, below))) as Arc<dyn Backing>);
    let chronicle = Chronicle::new(start);
    let image = kind.open(media, backing.clone());
    let arena = Arena { kind, image: &image, chronicle: &chronicle };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (arena, done) = (&arena, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                arena.chronicle.read(arena.image, 0, count);
            }
        });
        let workers: Vec<_> = (1..=THREADS)
            .map(|thread| {
                let mut rng = rng.fork();
                scope.spawn(move || {
                    for step in 0..steps {
                        arena.step(&mut rng, step * (THREADS + 1) + thread);
                    }
                })
            })
            .collect();
        let results: Vec<_> =
            workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a worker failed");
    });
    chronicle.read(&image, 0, count);
    let content = images::read_all(&image);
    image.close().unwrap();
    assert_closed(&images::bytes(&*media.image));
    assert!(
        images::read_all(&kind.open(media, backing)) == content,
        "the next session sees others"
    );
    if let (Data::Raw, Some(data)) = (kind.data, &media.data) {
        assert!(images::bytes(&**data) == content, "the raw file shows something else");
    }
}

fn fight_over(kind: Kind, seed: u64, steps: u64) {
    let mut rng = Rng::announced(seed);
    let below = if kind.data == Data::Raw { 0 } else { kind.size as usize / SECTOR * 2 / 3 };
    fight(kind, &kind.memory(), below, &mut rng, steps);
    fight(kind, &kind.memory(), 0, &mut rng, steps);
}

#[test]
fn trap_85_and_96_over_clusters() {
    fight_over(Kind::standard(48 << 10, 12), 1, 2500);
    fight_over(Kind::standard((20 << 10) + 512, 9).lazy(), 2, 2500);
    fight_over(Kind::standard(48 << 10, 12).width(0).lazy(), 3, 1500);
}

#[test]
fn over_subclusters() {
    fight_over(Kind::extended((5 << 14) + 3 * 512, 14), 4, 2000);
    fight_over(Kind::extended(4 << 14, 14).lazy(), 5, 1500);
    let prepared = Kind { preallocation: Preallocation::Metadata, ..Kind::extended(4 << 14, 14) };
    fight_over(prepared, 6, 1500);
}

#[test]
fn over_a_data_file() {
    fight_over(Kind::standard(48 << 10, 12).with_data(Data::Outside), 7, 2000);
    fight_over(Kind::extended(4 << 14, 14).with_data(Data::Outside).lazy(), 8, 1500);
}

#[test]
fn over_a_raw_data_file() {
    fight_over(Kind::standard((48 << 10) + 512, 12).with_data(Data::Raw), 9, 2000);
    fight_over(Kind::extended(4 << 14, 14).with_data(Data::Raw), 10, 1500);
}
