//! Races played move by move: one host call is held where it hurts most, the others go on.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Image, OpenOptions, ZeroMode};
use testkit::{Call, CallSet, FaultStorage, HoldStorage};

use crate::census;
use crate::images::{self, memory, open};

const CLUSTER: u64 = 65536;
const READS: CallSet = CallSet::of(&[Call::Read]);
const WRITES: CallSet = CallSet::of(&[Call::Write]);
const SYNCS: CallSet = CallSet::of(&[Call::Sync]);

type Held = Arc<HoldStorage<MemoryStorage>>;

fn held(storage: &MemoryStorage) -> Held {
    Arc::new(HoldStorage::new(storage.clone()))
}

fn finish(image: Image, storage: &Held) {
    image.close().unwrap();
    census::assert_clean(&images::bytes(storage.inner()));
}

/// Lets everything go on when a test ends early: a failure must not become a hang.
struct Released<'h>(&'h HoldStorage<MemoryStorage>);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Long enough for a thread that does not wait to have done its work.
fn let_others_run() {
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn trap_84_the_second_write_to_a_new_cluster_sees_the_mapping_of_the_first() {
    let storage = held(&memory(1 << 20, 16));
    let image = open(&storage);
    storage.hold_range(WRITES, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.write_at(0, &[1; 4096]).unwrap());
        storage.wait_for(1);
        let second = scope.spawn(|| image.write_at(8192, &[2; 4096]).unwrap());
        let_others_run();
        assert!(!second.is_finished(), "the second write went ahead");
        assert_eq!(storage.waiting(), 1);
        // Other clusters do not wait.
        image.write_at(CLUSTER, &[3; 512]).unwrap();
        // Readers see what was there before.
        assert_eq!(images::read(&image, 0, 4096), [0; 4096]);
        storage.release();
    });
    assert_eq!(images::read(&image, 0, 4096), [1; 4096]);
    assert_eq!(images::read(&image, 4096, 4096), [0; 4096]);
    assert_eq!(images::read(&image, 8192, 4096), [2; 4096]);
    finish(image, &storage);
}

#[test]
fn trap_96_a_zero_write_waits_for_the_first_write_of_its_cluster() {
    let storage = held(&memory(1 << 20, 16));
    let image = open(&storage);
    storage.hold_range(WRITES, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.write_at(0, &[1; 4096]).unwrap());
        storage.wait_for(1);
        let zero = scope.spawn(|| image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap());
        let_others_run();
        assert!(!zero.is_finished());
        storage.release();
    });
    assert_eq!(images::read(&image, 0, 4096), [0; 4096], "the zeros came last");
    finish(image, &storage);
}

/// An image with 0x11 in guest cluster 0, which is host cluster 5, flushed.
fn with_a_first_cluster() -> (Held, Image) {
    let storage = held(&memory(1 << 20, 16));
    let image = open(&storage);
    image.write_at(0, &[0x11; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    (storage, image)
}

/// Unmaps guest cluster 0 and writes others until host cluster 5 would be taken if it were free.
fn unmap_and_reuse(image: &Image) {
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    for number in 1..4 {
        image.flush().unwrap();
        image.write_at(number * CLUSTER, &[0x22; CLUSTER as usize]).unwrap();
    }
    image.flush().unwrap();
}

#[test]
fn ce_3_a_held_read_never_sees_foreign_bytes() {
    let (storage, image) = with_a_first_cluster();
    storage.hold_range(READS, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&storage);
        let reader = scope.spawn(|| images::read(&image, 0, CLUSTER as usize));
        storage.wait_for(1);
        unmap_and_reuse(&image);
        storage.release();
        assert!(reader.join().unwrap().iter().all(|byte| *byte == 0x11), "foreign bytes");
    });
    // Now nobody uses it.
    image.flush().unwrap();
    let plan = image.begin_write(9 * CLUSTER, CLUSTER).unwrap().plan().to_string();
    assert!(plan.contains("host 0x50000"), "{plan}");
    finish(image, &storage);
}

#[test]
fn trap_85_a_held_write_in_place_never_hits_a_new_owner() {
    let (storage, image) = with_a_first_cluster();
    storage.hold_range(WRITES, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.write_at(512, &[0x33; 512]).unwrap());
        storage.wait_for(1);
        unmap_and_reuse(&image);
        storage.release();
    });
    for number in 1..4 {
        assert_eq!(images::read(&image, number * CLUSTER, 2048), [0x22; 2048]);
    }
    finish(image, &storage);
}

#[test]
fn a_held_copy_on_write_reads_the_old_cluster_to_its_end() {
    // A compressed cluster is replaced while somebody copies from it.
    let storage = held(&memory(1 << 20, 16));
    let image = open(&storage);
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &[0x44; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    storage.hold_range(READS, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&storage);
        let reader = scope.spawn(|| images::read(&image, 0, 4096));
        storage.wait_for(1);
        image.write_at(0, &[0x55; CLUSTER as usize]).unwrap();
        for number in 1..4 {
            image.flush().unwrap();
            image.write_at(number * CLUSTER, &[0x66; CLUSTER as usize]).unwrap();
        }
        storage.release();
        assert_eq!(reader.join().unwrap(), [0x44; 4096]);
    });
    finish(image, &storage);
}

#[test]
fn changes_behind_a_flush_are_in_the_next_one() {
    let storage = held(&memory(1 << 20, 16));
    let image = open(&storage);
    image.write_at(0, &[1; 512]).unwrap();
    storage.hold(SYNCS);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.flush().unwrap());
        storage.wait_for(1);
        image.write_at(CLUSTER, &[2; 512]).unwrap();
        storage.release();
    });
    let plan = image.flush_traced().unwrap().to_string();
    assert!(plan.contains("refcount block") && plan.contains("L2 table"), "{plan}");
    finish(image, &storage);
}

#[test]
fn flushes_that_come_meanwhile_share_the_next_one() {
    let storage = Arc::new(FaultStorage::new(HoldStorage::new((*memory(1 << 20, 16)).clone())));
    let image = open(&storage);
    image.write_at(0, &[0; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(0, &[1; 512]).unwrap();
    storage.inner().hold(SYNCS);
    storage.reset();
    thread::scope(|scope| {
        let _released = Released(storage.inner());
        scope.spawn(|| image.flush().unwrap());
        storage.inner().wait_for(1);
        image.write_at(0, &[2; 512]).unwrap();
        for _ in 0..6 {
            scope.spawn(|| image.flush().unwrap());
        }
        let_others_run();
        storage.inner().release();
    });
    // The one that was held, and one for everybody who came while it was.
    assert_eq!(storage.counts().of(Call::Sync), 2);
}

#[test]
fn a_slice_is_not_read_back_before_a_flush_has_written_it() {
    // 128 slices on disk, 64 in memory at most.
    let start = memory(4 << 20, 9);
    let image = open(&start);
    for at in (0..4 << 20).step_by(32 << 10) {
        image.write_at(at, &[1; 512]).unwrap();
    }
    image.close().unwrap();
    let storage = held(&start);
    let options = OpenOptions::new().l2_cache_bytes(0);
    let image = Image::open(Arc::<HoldStorage<_>>::clone(&storage), options).unwrap();
    image.write_at(512, &[2; 512]).unwrap();
    let slice = images::l2_entry_at(storage.inner(), 0);
    storage.hold_range(WRITES, slice..slice + 512);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.flush().unwrap());
        storage.wait_for(1);
        // The flush has copied the slice and not written it. Everything else pushes it out.
        for _ in 0..3 {
            for at in (32 << 10..4 << 20).step_by(32 << 10) {
                images::read(&image, at, 512);
            }
        }
        assert_eq!(images::read(&image, 512, 512), [2; 512], "an old slice came back");
        image.write_at(1024, &[3; 512]).unwrap();
        storage.release();
    });
    assert_eq!(
        images::read(&image, 0, 1536)[510..1026],
        [&[1; 2][..], &[2; 512], &[3; 2]].concat()
    );
    finish(image, &storage);
}

#[test]
fn growth_waits_for_a_flush_that_carries_older_blocks() {
    // One low cluster is free, the others are at the end of what the refcount table can count.
    let start = Arc::new(crate::faults::nearly_full());
    let image = open(&start);
    image.write_zeroes_at(0, 512, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    let storage = held(&start);
    let image = open(&storage);
    // Two clusters: the low one and one near the end; both their blocks are dirty.
    image.write_at(12 << 20, &[1; 1024]).unwrap();
    let block = images::word(storage.inner(), images::word(storage.inner(), 48));
    storage.hold_range(WRITES, block..block + 512);
    thread::scope(|scope| {
        let _released = Released(&storage);
        scope.spawn(|| image.flush().unwrap());
        storage.wait_for(1);
        // Fills the last block up and needs a larger table.
        let grower = scope.spawn(|| image.write_at(13 << 20, &[2; 64 << 10]).unwrap());
        let_others_run();
        assert!(!grower.is_finished(), "the table grew under a flush");
        storage.release();
    });
    image.flush().unwrap();
    census::assert_no_loss(&images::bytes(storage.inner()));
    assert!(images::word(storage.inner(), 48) > 8 << 20, "the table has moved");
    finish(image, &storage);
}

#[test]
fn a_reader_asks_below_until_the_first_write_is_published() {
    let storage = held(&memory(1 << 20, 16));
    let below = Arc::new(crate::test_backing::TestBacking::new(vec![7; 1 << 20]));
    let image = images::open_over(&storage, Some(below));
    let pending = image.begin_write(0, 512).unwrap();
    image.execute(pending.plan(), &[1; 512]).unwrap();
    assert_eq!(images::read(&image, 0, 1024), [7; 1024]);
    pending.publish().unwrap();
    assert_eq!(images::read(&image, 0, 1024)[510..514], [1, 1, 7, 7]);
    finish(image, &storage);
}

#[test]
fn a_write_that_dies_of_a_panic_blocks_nobody() {
    #[derive(Debug)]
    struct Panics;
    impl cow_engine::Backing for Panics {
        fn virtual_size(&self) -> u64 {
            u64::MAX
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), cow_engine::BelowError> {
            panic!("below");
        }
        fn reads_as_zeros(&self, _: u64, _: u64) -> Result<bool, cow_engine::BelowError> {
            Ok(false)
        }
    }
    let storage = held(&memory(1 << 20, 16));
    let image = images::open_over(&storage, Some(Arc::new(Panics)));
    let died =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| image.write_at(0, &[1; 512])));
    assert!(died.is_err());
    image.write_at(0, &[2; CLUSTER as usize]).unwrap();
    finish(image, &storage);
    assert!(storage.inner().len().unwrap() < 8 * CLUSTER);
}
