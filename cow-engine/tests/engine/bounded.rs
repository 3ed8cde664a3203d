//! Memory for tables stays within its budget, however large the disk and however far apart the
//! requests; and nothing is lost on the way out of memory and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use block_io::{MemoryStorage, Storage};
use cow_engine::{CacheUsage, Image, OpenOptions, ZeroMode};
use testkit::{Rng, census};

use crate::images;
use crate::kinds::{Data, Kind, Media};

const SECTOR: u64 = 512;
const TIB: u64 = 1 << 40;
const MIB: u64 = 1 << 20;

/// A disk of which little is written, and what it shows: what is not here is zeros.
struct Disk<'r> {
    kind: Kind,
    image: Image,
    expected: BTreeMap<u64, u8>,
    rng: &'r mut Rng,
    most: CacheUsage,
}

fn open(kind: Kind, media: &Media<MemoryStorage>, refcount_bytes: u64) -> Image {
    let image: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&media.image);
    let options = OpenOptions::new()
        .data_file(media.data())
        .l2_cache_bytes(kind.l2_cache_bytes)
        .refcount_cache_bytes(refcount_bytes);
    Image::open(image, options).unwrap()
}

impl Disk<'_> {
    /// Any sector; one that was written before, or a neighbour of it, in a third of all cases.
    fn sector(&mut self) -> u64 {
        let end = self.kind.size / SECTOR;
        if self.expected.is_empty() || !self.rng.one_in(3) {
            return self.rng.below(end);
        }
        let known = self.expected.range(self.rng.below(end)..).next();
        let known = known.or(self.expected.iter().next());
        (*known.unwrap().0 + self.rng.below(2)).min(end - 1)
    }

    fn forget(&mut self, first: u64, bytes: u64) {
        let gone: Vec<u64> =
            self.expected.range(first..first + bytes / SECTOR).map(|(sector, _)| *sector).collect();
        for sector in gone {
            self.expected.remove(&sector);
        }
    }

    fn assert_sector(&self, sector: u64) {
        let byte = self.expected.get(&sector).copied().unwrap_or(0);
        let found = images::read(&self.image, sector * SECTOR, SECTOR as usize);
        assert_eq!(found, [byte; SECTOR as usize], "sector {sector}");
    }

    fn step(&mut self, number: usize) {
        let sector = self.sector();
        let (at, per_cluster) = (sector * SECTOR, self.kind.cluster_bytes() / SECTOR);
        let cluster = sector - sector % per_cluster;
        let mode = *self.rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
        match self.rng.below(20) {
            0 => {
                let len = self.kind.cluster_bytes();
                self.image.discard_at(cluster * SECTOR, len).unwrap();
                self.forget(cluster, len);
            }
            1 => {
                self.image.write_zeroes_at(at, SECTOR, mode).unwrap();
                self.forget(sector, SECTOR);
            }
            2 => {
                // Many clusters, of more than one table.
                let len = (300 * self.kind.cluster_bytes()).min(self.kind.size - cluster * SECTOR);
                if self.rng.one_in(2) {
                    self.image.write_zeroes_at(cluster * SECTOR, len, mode).unwrap();
                } else {
                    self.image.discard_at(cluster * SECTOR, len).unwrap();
                }
                self.forget(cluster, len);
            }
            3..7 => self.assert_sector(sector),
            _ => {
                let byte = number as u8 | 1;
                self.image.write_at(at, &[byte; SECTOR as usize]).unwrap();
                self.expected.insert(sector, byte);
            }
        }
        let now = self.image.cache_usage();
        self.most.l2_slices = self.most.l2_slices.max(now.l2_slices);
        self.most.l2_bytes = self.most.l2_bytes.max(now.l2_bytes);
        self.most.l2_slices_dirty = self.most.l2_slices_dirty.max(now.l2_slices_dirty);
        self.most.refcount_bytes = self.most.refcount_bytes.max(now.refcount_bytes);
    }

    fn compare(&self) {
        for &sector in self.expected.keys() {
            self.assert_sector(sector);
            self.assert_sector(sector + 1);
        }
    }
}

/// Writes here and there on a large disk with little memory, and compares.
fn roam(kind: Kind, rng: &mut Rng, steps: usize) {
    eprintln!("{kind:?}");
    let media = kind.memory();
    let refcount_bytes = MIB;
    let image = open(kind, &media, refcount_bytes);
    let (expected, most) = (BTreeMap::new(), CacheUsage::default());
    let mut disk = Disk { kind, image, expected, rng, most };
    (0..steps).for_each(|number| disk.step(number));
    disk.compare();
    let Disk { image, expected, most, rng, .. } = disk;
    eprintln!("most: {most:?}");
    image.close().unwrap();
    census::assert_clean(&*media.image);
    let image = open(kind, &media, refcount_bytes);
    Disk { kind, image, expected, rng, most }.compare();
    // A slice of 4 KiB, or a table; a quarter of the budget may be dirty and come on top, and so
    // may what one request touches.
    let slice_bytes = kind.cluster_bytes().min(4096);
    let budget = kind.l2_cache_bytes.max(64 * slice_bytes);
    let slices = (budget / slice_bytes) as usize;
    assert!(most.l2_slices >= slices * 3 / 4, "the budget was never under pressure");
    assert!(most.l2_bytes <= budget * 5 / 4 + 8 * slice_bytes);
    assert!(most.l2_slices_dirty <= slices / 4 + 8);
    assert!(most.refcount_bytes <= refcount_bytes.max(9 * kind.cluster_bytes()));
}

#[test]
fn sixteen_tib_in_one_mib() {
    let mut rng = Rng::announced(0x16_71b);
    let kind = Kind { l2_cache_bytes: MIB, ..Kind::standard(16 * TIB, 16) };
    roam(kind, &mut rng, 900);
    roam(kind.lazy(), &mut rng, 700);
    let kind = Kind { l2_cache_bytes: MIB, ..Kind::extended(16 * TIB, 16) };
    roam(kind, &mut rng, 900);
    roam(kind.with_data(Data::Outside), &mut rng, 700);
}

#[test]
fn the_smallest_and_the_largest_clusters() {
    let mut rng = Rng::announced(0x5_2);
    // Less than the least that is kept: 64 slices.
    let small = Kind { l2_cache_bytes: 1, ..Kind::standard(8 << 30, 9) };
    roam(small, &mut rng, 800);
    let large = Kind { l2_cache_bytes: 1, ..Kind::standard(16 * TIB, 21) };
    roam(large, &mut rng, 300);
    roam(Kind { extended_l2: true, ..large }, &mut rng, 300);
}

/// Counts of 64 bits and clusters of 512 bytes: a block counts 32 KiB of the file.
#[test]
fn refcount_blocks_stay_within_their_budget() {
    const SIZE: u64 = 6 * MIB;
    const KEPT: usize = 16;
    let mut rng = Rng::announced(0xb10c);
    for kind in [Kind::standard(SIZE, 9).width(6), Kind::standard(SIZE, 9).width(6).lazy()] {
        let media = kind.memory();
        let image = open(kind, &media, 2 * KEPT as u64 * 512);
        let mut expected = vec![0; (SIZE / SECTOR) as usize];
        let most = AtomicUsize::new(0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Looks inside flushes, too.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    most.fetch_max(image.cache_usage().refcount_blocks, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            });
            for at in (0..SIZE).step_by(8 << 10) {
                image.write_at(at, &[1; 8 << 10]).unwrap();
            }
            expected.fill(1);
            for number in 0..5_000_usize {
                let sector = rng.below(SIZE / SECTOR - 8);
                let (at, range) = (sector * SECTOR, sector as usize..sector as usize + 8);
                if rng.one_in(2) {
                    image.discard_at(at, 8 * SECTOR).unwrap();
                    expected[range].fill(0);
                } else {
                    image.write_at(at, &[number as u8; 8 * SECTOR as usize]).unwrap();
                    expected[range].fill(number as u8);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let blocks = media.image.len().unwrap() / 512 / 64;
        let most = most.into_inner();
        // Those that the disk has, those that it lacks, and for moments those that one search brings:
        // up to 46 were seen.
        assert!(blocks > 150 && most <= 4 * KEPT, "{most} of {blocks} blocks in memory");
        for (sector, byte) in expected.iter().enumerate() {
            let found = images::read(&image, sector as u64 * SECTOR, SECTOR as usize);
            assert_eq!(found, [*byte; SECTOR as usize], "sector {sector}");
        }
        image.close().unwrap();
        census::assert_clean(&*media.image);
    }
}
