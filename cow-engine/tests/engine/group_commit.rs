//! Many threads that flush share barriers, and each of them still gets what it was promised: what
//! it had written before it called is durable when the call returns.

use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use block_io::{Alignment, Extent, FileId, Lock, MemoryStorage, Result, Storage};
use cow_engine::{Error, Image, OpenOptions};
use testkit::{Call, CallSet, Fault, FaultStorage, HoldStorage};

use crate::images::{self, memory};

/// A disk whose syncs take their time. What is durable is what was there when a sync began.
#[derive(Debug)]
struct SlowDisk {
    live: MemoryStorage,
    durable: Mutex<MemoryStorage>,
    delay: Duration,
    syncs: AtomicU64,
}

impl SlowDisk {
    fn new(start: &MemoryStorage, delay: Duration) -> Self {
        let (live, durable) = (start.clone(), Mutex::new(start.clone()));
        Self { live, durable, delay, syncs: AtomicU64::new(0) }
    }

    /// What a power cut at this moment would leave for certain.
    fn durable(&self) -> Arc<MemoryStorage> {
        Arc::new(self.durable.lock().unwrap().clone())
    }
}

impl Storage for SlowDisk {
    fn len(&self) -> Result<u64> {
        self.live.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.live.read_at(offset, buf)
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.live.read_vectored_at(offset, bufs)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.live.write_at(offset, buf)
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        self.live.write_vectored_at(offset, bufs)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.live.write_zeroes_at(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        self.live.punch_hole(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.live.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.live.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let now = self.live.clone();
        std::thread::sleep(self.delay);
        *self.durable.lock().unwrap() = now;
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.live.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.live.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.live.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.live.identity()
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}
    fn begin_sync(&self) {}
    fn modified(&self) -> Result<Option<i64>> {
        self.live.modified()
    }

    fn is_read_only(&self) -> bool {
        self.live.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.live.lock(lock)
    }
}

const CLUSTER: u64 = 4096;
const THREADS: u64 = 8;
const FLUSHES: u64 = 10;

/// Each thread writes and flushes, and looks at once whether its bytes would survive. Returns how
/// many syncs that took.
fn share(lazy: bool, place: impl Fn(u64, u64) -> u64 + Sync, prepared: bool) -> u64 {
    let start = memory(1 << 20, 12);
    if prepared {
        let image = images::open(&start);
        image.write_at(0, &vec![1; 1 << 20]).unwrap();
        image.close().unwrap();
    }
    let disk = Arc::new(SlowDisk::new(&start, Duration::from_millis(4)));
    let options = OpenOptions::new().lazy_refcounts(lazy);
    let image = Image::open(Arc::<SlowDisk>::clone(&disk), options).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (image, disk, place) = (&image, &disk, &place);
            scope.spawn(move || {
                for number in 0..FLUSHES {
                    let stamp = [(thread * FLUSHES + number + 1) as u8; 512];
                    let at = place(thread, number);
                    image.write_at(at, &stamp).unwrap();
                    image.flush().unwrap();
                    let left = images::open_read_only(&disk.durable(), None);
                    assert_eq!(images::read(&left, at, 512), stamp, "{thread}, {number}");
                }
            });
        }
    });
    let syncs = disk.syncs.load(Ordering::SeqCst);
    image.close().unwrap();
    testkit::census::assert_clean(&images::bytes(&disk.live));
    syncs
}

#[test]
fn overwrites_of_many_threads_share_syncs() {
    let syncs = share(false, |thread, _| thread * 3 * CLUSTER, true);
    // One would do for all that wait while one is under way. A thread alone needs FLUSHES.
    assert!(syncs >= FLUSHES, "{syncs} syncs cannot have kept the promise");
    assert!(syncs <= THREADS * FLUSHES / 2, "{syncs} syncs for {} flushes", THREADS * FLUSHES);
}

#[test]
fn first_writes_of_many_threads_share_barriers() {
    for lazy in [false, true] {
        let place = |thread, number| (thread * FLUSHES + number) * 2 * CLUSTER;
        let syncs = share(lazy, place, false);
        // Counts and data, entries: two barriers for each flush alone.
        assert!(syncs >= 2 * FLUSHES, "{syncs} syncs cannot have kept the promise");
        assert!(syncs <= THREADS * FLUSHES, "{syncs} syncs for {} flushes", THREADS * FLUSHES);
    }
}

/// Counts those who are about to flush.
#[derive(Default)]
struct Crowd {
    here: Mutex<u64>,
    changed: Condvar,
}

impl Crowd {
    fn arrive(&self) {
        *self.here.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Waits until `count` have come, and a little longer for what they do next.
    fn gather(&self, count: u64) {
        let here = self.here.lock().unwrap();
        drop(self.changed.wait_while(here, |here| *here < count).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
}

type HeldDisk = HoldStorage<FaultStorage<MemoryStorage>>;

/// An image with data in its first clusters, on a disk that can hold calls and fail them.
fn held() -> (Arc<HeldDisk>, Image) {
    let start = memory(1 << 20, 12);
    let image = images::open(&start);
    image.write_at(0, &[1; 32 * CLUSTER as usize]).unwrap();
    image.close().unwrap();
    let disk = Arc::new(HoldStorage::new(FaultStorage::new((*start).clone())));
    let image = images::open(&disk);
    (disk, image)
}

const SYNC: CallSet = CallSet::of(&[Call::Sync]);

#[test]
fn all_who_come_while_a_sync_is_held_share_the_next_one() {
    let (disk, image) = held();
    image.write_at(0, &[2; 512]).unwrap();
    disk.hold(SYNC);
    let crowd = Crowd::default();
    std::thread::scope(|scope| {
        scope.spawn(|| image.flush().unwrap());
        disk.wait_for(1);
        for thread in 1..=12_u64 {
            let (image, crowd) = (&image, &crowd);
            scope.spawn(move || {
                image.write_at(thread * CLUSTER, &[3; 512]).unwrap();
                crowd.arrive();
                image.flush().unwrap();
            });
        }
        crowd.gather(12);
        assert_eq!(disk.inner().counts().of(Call::Sync), 0, "one is held, the others wait for it");
        disk.release();
    });
    let syncs = disk.inner().counts().of(Call::Sync);
    // Two, unless one of the twelve was stopped for long between arriving and flushing.
    assert!((2..=3).contains(&syncs), "{syncs} syncs for 13 flushes");
}

#[test]
fn a_late_joiner_is_not_served_by_a_sync_that_had_begun() {
    let (disk, image) = held();
    image.write_at(0, &[2; 512]).unwrap();
    disk.hold(SYNC);
    let (crowd, is_back) = (Crowd::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| image.flush().unwrap());
        disk.wait_for(1);
        scope.spawn(|| {
            image.write_at(CLUSTER, &[3; 512]).unwrap();
            crowd.arrive();
            image.flush().unwrap();
            is_back.store(true, Ordering::SeqCst);
        });
        crowd.gather(1);
        assert!(!is_back.load(Ordering::SeqCst), "its bytes came after the sync had begun");
        disk.release();
    });
    assert_eq!(disk.inner().counts().of(Call::Sync), 2);
}

#[test]
fn a_flush_without_anything_new_syncs_nothing() {
    let (disk, image) = held();
    image.write_at(0, &[2; 512]).unwrap();
    image.flush().unwrap();
    image.flush().unwrap();
    assert_eq!(disk.inner().counts().of(Call::Sync), 1);
}

#[test]
fn a_flush_that_fails_fails_for_all_who_wait() {
    let (disk, image) = held();
    image.write_at(0, &[2; 512]).unwrap();
    disk.inner().arm(Fault::nth(1, SYNC));
    disk.hold(SYNC);
    let crowd = Crowd::default();
    let answers = std::thread::scope(|scope| {
        let leader = scope.spawn(|| image.flush().unwrap_err());
        disk.wait_for(1);
        let waiting: Vec<_> = (1..=6_u64)
            .map(|thread| {
                let (image, crowd) = (&image, &crowd);
                scope.spawn(move || {
                    image.write_at(thread * CLUSTER, &[3; 512]).unwrap();
                    crowd.arrive();
                    image.flush().unwrap_err()
                })
            })
            .collect();
        crowd.gather(6);
        disk.inner().reset();
        disk.release();
        let leader = leader.join().unwrap();
        assert!(matches!(leader, Error::Storage { .. }), "{leader}");
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let counts = disk.inner().counts();
    assert_eq!(counts.of(Call::Sync), 1, "nobody tries again: {counts}");
    for answer in answers {
        let Error::Poisoned(first) = &answer else { panic!("{answer}") };
        assert!(matches!(**first, Error::Storage { .. }) && first.raw_os_error() == Some(5));
    }
    // Reads go on, and nothing more reaches the disk.
    assert_eq!(images::read(&image, 3 * CLUSTER, 512), [3; 512]);
    let left = images::bytes(disk.inner().inner());
    disk.inner().reset();
    for refused in [image.write_at(0, &[4; 512]), image.discard_at(0, CLUSTER), image.flush()] {
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(5));
    }
    drop(image);
    assert_eq!(disk.inner().counts().within(CallSet::CHANGES_AND_SYNCS), 0);
    assert!(images::bytes(disk.inner().inner()) == left);
}
