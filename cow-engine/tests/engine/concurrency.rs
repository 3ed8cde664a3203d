//! Many threads on one image: every sector shows the last write that ended, or one under way; the
//! counts fit in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use block_io::{Create, Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{Image, OpenOptions, ZeroMode};
use testkit::{Folder, Qemu, Rng};

use crate::census;
use crate::images::{self, memory};
use crate::stamps::{SECTOR, ZERO, sectors, stamps};

/// What happened to one sector, write by write: its stamps, and how many writes have ended.
#[derive(Default)]
struct Track {
    stamps: Vec<u64>,
    ended: usize,
}

/// The sectors of a disk, each written by one thread only, read by all.
struct Field {
    tracks: Vec<Mutex<Track>>,
    threads: usize,
    /// Sectors in a row that one thread owns; does not divide a cluster.
    group: usize,
}

impl Field {
    fn new(sectors: usize, threads: usize) -> Self {
        let tracks =
            (0..sectors).map(|_| Mutex::new(Track { stamps: vec![ZERO], ended: 1 })).collect();
        Self { tracks, threads, group: 3 }
    }

    /// A range that thread `owner` may write.
    fn own_range(&self, owner: usize, rng: &mut Rng) -> (usize, usize) {
        let groups = self.tracks.len() / self.group / self.threads;
        let group = rng.below(groups as u64) as usize * self.threads + owner;
        let skip = rng.below(self.group as u64) as usize;
        let len = 1 + rng.below((self.group - skip) as u64) as usize;
        (group * self.group + skip, len)
    }

    fn begin(&self, first: usize, count: usize, stamp: u64) {
        for track in &self.tracks[first..first + count] {
            track.lock().unwrap().stamps.push(stamp);
        }
    }

    fn end(&self, first: usize, count: usize) {
        for track in &self.tracks[first..first + count] {
            let mut track = track.lock().unwrap();
            track.ended = track.stamps.len();
        }
    }

    /// Reads and compares with what was written before, and during, the read.
    fn read(&self, image: &Image, first: usize, count: usize) {
        let floor: Vec<usize> = self.tracks[first..first + count]
            .iter()
            .map(|track| track.lock().unwrap().ended - 1)
            .collect();
        let mut bytes = vec![0; count * SECTOR];
        image.read_at((first * SECTOR) as u64, &mut bytes).unwrap();
        for (index, found) in stamps(&bytes, first).unwrap().into_iter().enumerate() {
            let track = self.tracks[first + index].lock().unwrap();
            let possible = &track.stamps[floor[index]..];
            let sector = first + index;
            assert!(possible.contains(&found), "sector {sector}: {found:x} not of {possible:x?}");
        }
    }

    /// One thread's share of the work.
    fn work(&self, image: &Image, owner: usize, rng: &mut Rng, steps: usize) {
        for step in 0..steps {
            let (first, count) = self.own_range(owner, rng);
            let (at, len) = ((first * SECTOR) as u64, (count * SECTOR) as u64);
            match rng.below(16) {
                0 => image.flush().unwrap(),
                1..4 => {
                    let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                    self.begin(first, count, ZERO);
                    image.write_zeroes_at(at, len, mode).unwrap();
                    self.end(first, count);
                }
                4..7 => {
                    let first = rng.below(self.tracks.len() as u64 - 20) as usize;
                    self.read(image, first, 20);
                }
                _ => {
                    let stamp = (step * self.threads + owner + 1) as u64;
                    self.begin(first, count, stamp);
                    image.write_at(at, &sectors(stamp, first, count)).unwrap();
                    self.end(first, count);
                }
            }
        }
    }

    fn stress(&self, image: &Image, rng: &mut Rng, steps: usize) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut reader = rng.fork();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let first = reader.below(self.tracks.len() as u64 - 64) as usize;
                    self.read(image, first, 64);
                }
            });
            let workers: Vec<_> = (0..self.threads)
                .map(|owner| {
                    let mut rng = rng.fork();
                    scope.spawn(move || self.work(image, owner, &mut rng, steps))
                })
                .collect();
            let results: Vec<_> =
                workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok), "a worker failed");
        });
        self.read(image, 0, self.tracks.len());
    }
}

fn open_small_cache<S: Storage + 'static>(storage: &Arc<S>) -> Image {
    let storage: Arc<dyn Storage> = Arc::<S>::clone(storage);
    Image::open(storage, OpenOptions::new().l2_cache_bytes(0)).unwrap()
}

fn stress_in_memory(storage: &Arc<MemoryStorage>, sectors: usize, threads: usize, steps: usize) {
    let mut rng = Rng::announced(0x57e55);
    let field = Field::new(sectors, threads);
    let image = open_small_cache(storage);
    field.stress(&image, &mut rng, steps);
    image.close().unwrap();
    census::assert_clean(&images::bytes(&**storage));
    field.read(&open_small_cache(storage), 0, sectors);
}

#[test]
fn few_clusters_and_many_threads() {
    // 16 clusters of 8 sectors: everybody meets everybody.
    stress_in_memory(&memory(64 << 10, 12), 128, 8, 300);
}

#[test]
fn many_slices_and_a_small_cache() {
    // 192 tables of 64 entries, of which 64 fit into memory.
    stress_in_memory(&memory(6 << 20, 9), 12 << 10, 4, 1500);
}

#[test]
fn while_the_refcount_table_grows() {
    let storage = Arc::new(crate::faults::nearly_full());
    // The last 2 MiB of the disk are unused: their tables and clusters do not fit.
    let first = 14 << 20;
    let image = open_small_cache(&storage);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let image = &image;
            scope.spawn(move || {
                for number in 0..60 {
                    let at = first + (number * 4 + thread) * 1024;
                    image.write_at(at, &[thread as u8 + 1; 700]).unwrap();
                    if number % 7 == thread {
                        image.flush().unwrap();
                    }
                }
            });
        }
    });
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*storage));
    let image = images::open(&storage);
    for number in 0..240 {
        let found = images::read(&image, first + number * 1024, 1024);
        assert_eq!(found[..700], [(number % 4) as u8 + 1; 700]);
        assert_eq!(found[700..], [0; 324]);
    }
}

#[test]
fn on_a_file_and_in_the_eyes_of_the_real_tool() {
    let mut rng = Rng::announced(0xf57e55);
    let folder = Folder::new();
    let path = folder.path("stress.qcow2");
    let file = FileOptions::new().write(true).locking(Locking::Off).create(Create::Truncate);
    let storage = Arc::new(file.open(&path).unwrap());
    cow_engine::create(&*storage, &images::options(2 << 20, 16, qcow2_format::Version::V3))
        .unwrap();
    let field = Field::new(4 << 10, 4);
    let image = open_small_cache(&storage);
    field.stress(&image, &mut rng, 300);
    image.close().unwrap();
    Qemu::check(&path);
    let content = images::read_all(&images::open_read_only(&storage, None));
    let raw = folder.write("expected.raw", &content);
    Qemu::assert_same(("raw", &raw), ("qcow2", &path));
}

#[test]
fn compressed_writers_share_host_clusters() {
    let storage = memory(1 << 20, 12);
    let image = images::open(&storage);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let image = &image;
            scope.spawn(move || {
                let mut compressor = image.compressor().unwrap();
                for number in 0..64 {
                    let cluster = number * 4 + thread;
                    let bytes = sectors(cluster as u64 + 1, cluster * 8, 8);
                    let at = cluster as u64 * 4096;
                    image.write_compressed_at(&mut compressor, at, &bytes).unwrap();
                    if number % 5 == 0 {
                        // Frees its part of a shared host cluster.
                        image.write_at(at, &bytes).unwrap();
                    }
                    if number % 16 == thread {
                        image.flush().unwrap();
                    }
                }
            });
        }
    });
    let expected: Vec<u64> = (0..2048).map(|sector| sector / 8 + 1).collect();
    assert_eq!(stamps(&images::read_all(&image), 0).unwrap(), expected);
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*storage));
}
