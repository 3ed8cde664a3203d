//! Races about parts of clusters, data files and postponed counts, played move by move: one host
//! call is held where it hurts most, the others go on.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use block_io::MemoryStorage;
use cow_engine::{Image, Preallocation, ZeroMode};
use testkit::{Call, CallSet, HoldStorage};

use crate::images::{self, read};
use crate::kinds::{Data, Kind, Media};
use crate::power::assert_closed;
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;
/// A subcluster.
const SUB: u64 = CLUSTER / 32;
const WRITES: CallSet = CallSet::of(&[Call::Write]);
const READS: CallSet = CallSet::of(&[Call::Read]);
const PUNCHES: CallSet = CallSet::of(&[Call::PunchHole]);

type Held = HoldStorage<MemoryStorage>;

fn held(kind: Kind) -> (Media<Held>, Image) {
    let media = kind.memory().wrapped(|file| HoldStorage::new((**file).clone()));
    let image = kind.open(&media, None);
    (media, image)
}

fn finish(image: Image, media: &Media<Held>) {
    image.close().unwrap();
    assert_closed(&images::bytes(media.image.inner()));
}

/// Lets everything go on when a test ends early: a failure must not become a hang.
struct Released<'h>(&'h Held);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Long enough for a thread that does not wait to have done its work.
fn let_others_run() {
    thread::sleep(Duration::from_millis(50));
}

fn extended() -> Kind {
    Kind::extended(1 << 20, 16)
}

#[test]
fn trap_84_subclusters_of_one_new_cluster_wait_for_each_other() {
    let (media, image) = held(extended());
    media.image.hold_range(WRITES, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        scope.spawn(|| image.write_at(0, &[1; SUB as usize]).unwrap());
        media.image.wait_for(1);
        let second = scope.spawn(|| image.write_at(9 * SUB, &[2; SUB as usize]).unwrap());
        let third = scope.spawn(|| image.write_zeroes_at(5 * SUB, SUB, ZeroMode::Keep).unwrap());
        let_others_run();
        assert!(!second.is_finished() && !third.is_finished(), "somebody went ahead");
        media.image.release();
    });
    // One cluster for both.
    let plan = image.plan_read(0, CLUSTER).unwrap().to_string();
    assert!(plan.contains("data host 0x50000") && plan.contains("data host 0x54800"), "{plan}");
    assert_eq!(read(&image, 9 * SUB, SUB as usize), [2; SUB as usize]);
    finish(image, &media);
}

#[test]
fn a_subcluster_that_is_written_does_not_wait_for_its_neighbour() {
    let (media, image) = held(extended());
    image.write_at(0, &[1; SUB as usize]).unwrap();
    media.image.hold_range(WRITES, 0x5_0000 + 9 * SUB..0x5_0000 + 10 * SUB);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        scope.spawn(|| image.write_at(9 * SUB, &[2; SUB as usize]).unwrap());
        media.image.wait_for(1);
        image.write_at(100, &[3; 100]).unwrap();
        assert_eq!(read(&image, 100, 100), [3; 100]);
        assert_eq!(read(&image, 9 * SUB, 100), [0; 100], "not published yet");
        media.image.release();
    });
    assert_eq!(read(&image, 9 * SUB, SUB as usize), [2; SUB as usize]);
    finish(image, &media);
}

/// A write in place is held while all of its cluster is discarded, and the cluster taken again.
#[test]
fn trap_85_a_held_subcluster_write_never_hits_a_new_owner() {
    for kind in [extended(), extended().lazy()] {
        let (media, image) = held(kind);
        image.write_at(0, &[0x11; CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        media.image.hold_range(WRITES, 0x5_0000..0x6_0000);
        thread::scope(|scope| {
            let _released = Released(&media.image);
            scope.spawn(|| image.write_at(5 * SUB, &[0x33; 512]).unwrap());
            media.image.wait_for(1);
            image.discard_at(0, CLUSTER).unwrap();
            for number in 1..4 {
                image.flush().unwrap();
                image.write_at(number * CLUSTER + 7 * SUB, &[0x22; SUB as usize]).unwrap();
            }
            image.flush().unwrap();
            media.image.release();
        });
        for number in 1..4 {
            let found = read(&image, number * CLUSTER, CLUSTER as usize);
            let written = 7 * SUB as usize..8 * SUB as usize;
            assert!(found[written.clone()] == [0x22; SUB as usize]);
            assert!(found.iter().filter(|byte| **byte != 0).count() == written.len());
        }
        finish(image, &media);
    }
}

/// Zeros by bitmap do not pass a write of the same subcluster that copies around itself.
#[test]
fn a_held_subcluster_write_and_zeros_in_its_cluster() {
    let prepared = Kind { preallocation: Preallocation::Metadata, ..extended() };
    let (media, image) = held(prepared);
    let host = 0x5_0000 + 5 * SUB;
    media.image.hold_range(WRITES, host..host + SUB);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        scope.spawn(|| image.write_at(5 * SUB + 100, &[1; 100]).unwrap());
        media.image.wait_for(1);
        let zero = scope.spawn(|| image.write_zeroes_at(5 * SUB, SUB, ZeroMode::Unmap).unwrap());
        let discard = scope.spawn(|| image.discard_at(CLUSTER, CLUSTER).unwrap());
        let_others_run();
        assert!(!zero.is_finished());
        assert!(discard.is_finished(), "another cluster");
        media.image.release();
    });
    assert_eq!(read(&image, 5 * SUB, SUB as usize), [0; SUB as usize], "the zeros came last");
    finish(image, &media);
}

#[test]
fn a_held_read_of_a_subcluster_never_sees_foreign_bytes() {
    let (media, image) = held(extended());
    image.write_at(5 * SUB, &[0x11; SUB as usize]).unwrap();
    image.flush().unwrap();
    media.image.hold_range(READS, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        let reader = scope.spawn(|| read(&image, 5 * SUB, SUB as usize));
        media.image.wait_for(1);
        image.discard_at(0, CLUSTER).unwrap();
        for number in 1..4 {
            image.flush().unwrap();
            image.write_at(number * CLUSTER, &[0x22; CLUSTER as usize]).unwrap();
        }
        image.flush().unwrap();
        media.image.release();
        assert_eq!(reader.join().unwrap(), [0x11; SUB as usize]);
    });
    finish(image, &media);
}

#[test]
fn an_entry_and_its_bitmap_are_one() {
    // The copy of a shared cluster reads through the image while others read it.
    let media = extended().memory();
    let image = extended().open(&media, None);
    image.write_at(0, &[1; 4 * SUB as usize]).unwrap();
    image.close().unwrap();
    let table = images::word(&*media.image, images::word(&*media.image, 40)) & !(1 << 63);
    images::poke(&*media.image, table, |entry| entry & !(1 << 63));
    let media = media.wrapped(|file| HoldStorage::new((**file).clone()));
    let image = extended().open(&media, None);
    media.image.hold_range(WRITES, 0x6_0000..0x7_0000);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        scope.spawn(|| image.write_at(20 * SUB, &[2; 100]).unwrap());
        media.image.wait_for(1);
        assert_eq!(read(&image, 0, 4 * SUB as usize), [1; 4 * SUB as usize]);
        assert_eq!(read(&image, 20 * SUB, 100), [0; 100]);
        media.image.release();
    });
    assert_eq!(read(&image, 0, 4 * SUB as usize), [1; 4 * SUB as usize]);
    assert_eq!(read(&image, 20 * SUB, 101)[98..], [2, 2, 0]);
    finish(image, &media);
}

fn outside() -> Kind {
    Kind::standard(1 << 20, 16).with_data(Data::Outside)
}

/// The hole of a discarded cluster is held; a write takes the cluster into use again.
#[test]
fn a_late_hole_does_not_hit_a_cluster_in_use_again() {
    for kind in [outside(), outside().lazy(), extended().with_data(Data::Outside)] {
        let (media, image) = held(kind);
        let data = media.data.as_ref().unwrap();
        image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        image.discard_at(0, 2 * CLUSTER).unwrap();
        data.hold(PUNCHES);
        thread::scope(|scope| {
            let _released = Released(data);
            scope.spawn(|| image.flush().unwrap());
            data.wait_for(1);
            let writer = scope.spawn(|| image.write_at(512, &[2; 512]).unwrap());
            // The other one is not on its way yet.
            image.write_at(CLUSTER + 512, &[3; 512]).unwrap();
            let_others_run();
            assert!(!writer.is_finished(), "the cluster is being punched");
            data.release();
        });
        for (at, byte) in [(0, 2), (CLUSTER, 3)] {
            let mut expected = vec![0; CLUSTER as usize];
            expected[512..1024].fill(byte);
            assert!(read(&image, at, CLUSTER as usize) == expected, "{kind:?} {at:#x}");
        }
        finish(image, &media);
        let image = kind.open(&media, None);
        assert_eq!(read(&image, 0, 1536)[510..514], [0, 0, 2, 2]);
        assert_eq!(read(&image, CLUSTER, 1536)[510..514], [0, 0, 3, 3]);
    }
}

/// A write in place outlives the entry that it looked up: its bytes end up where nothing is.
#[test]
fn a_late_write_into_a_given_up_cluster_does_not_come_back() {
    let (media, image) = held(outside());
    let data = media.data.as_ref().unwrap();
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    data.hold_range(WRITES, 4096..4608);
    thread::scope(|scope| {
        let _released = Released(data);
        scope.spawn(|| image.write_at(4096, &[9; 512]).unwrap());
        data.wait_for(1);
        image.discard_at(0, CLUSTER).unwrap();
        image.flush().unwrap();
        data.release();
    });
    assert_eq!(read(&image, 0, CLUSTER as usize), [0; CLUSTER as usize]);
    image.write_at(100, &[2; 100]).unwrap();
    assert_eq!(read(&image, 4096, 512), [0; 512], "it came back");
    finish(image, &media);
}

/// What is written and what is made zeros must come out the same in the raw file.
#[test]
fn overlapping_requests_to_a_raw_file_do_not_pass_each_other() {
    let (media, image) = held(Kind::standard(1 << 20, 16).with_data(Data::Raw));
    let data = media.data.as_ref().unwrap();
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    data.hold_range(WRITES, 4096..4608);
    thread::scope(|scope| {
        let _released = Released(data);
        scope.spawn(|| image.write_at(4096, &[9; 512]).unwrap());
        data.wait_for(1);
        let zero = scope.spawn(|| image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap());
        image.write_at(CLUSTER, &[2; 512]).unwrap();
        let_others_run();
        assert!(!zero.is_finished(), "the zeros went ahead");
        data.release();
    });
    assert_eq!(read(&image, 0, CLUSTER as usize), [0; CLUSTER as usize]);
    assert!(images::read_all(&image) == images::bytes(data.inner()));
    finish(image, &media);
}

/// Entries gathered by a flush are those whose data it makes durable; later ones wait.
#[test]
fn a_write_during_the_sync_of_the_data_file_is_in_the_next_flush() {
    let (media, image) = held(outside());
    let data = media.data.as_ref().unwrap();
    image.write_at(0, &[1; 512]).unwrap();
    data.hold(CallSet::of(&[Call::Sync]));
    thread::scope(|scope| {
        let _released = Released(data);
        scope.spawn(|| image.flush().unwrap());
        data.wait_for(1);
        image.write_at(CLUSTER, &[2; 512]).unwrap();
        data.release();
    });
    let table = images::l2_entry_at(media.image.inner(), 0);
    assert_eq!(images::word(media.image.inner(), table), 1 << 63);
    assert_eq!(images::word(media.image.inner(), table + 8), 0, "its data may not be durable");
    image.flush().unwrap();
    assert_eq!(images::word(media.image.inner(), table + 8), 1 << 63 | CLUSTER);
    finish(image, &media);
}

/// While the dirty bit is on its way, others write, allocate and read.
#[test]
fn trap_83_nobody_waits_for_the_dirty_bit() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let (media, image) = held(kind);
    image.write_at(0, &[1; 512]).unwrap();
    media.image.hold_range(WRITES, 72..80);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        let flush = scope.spawn(|| image.flush().unwrap());
        media.image.wait_for(1);
        image.write_at(CLUSTER, &[2; 512]).unwrap();
        image.write_at(0, &[3; 512]).unwrap();
        assert_eq!(read(&image, 0, 512), [3; 512]);
        assert!(!flush.is_finished());
        assert_eq!(images::word(media.image.inner(), 0x3_0000), 0, "no entry before the bit");
        media.image.release();
    });
    assert_eq!(images::word(media.image.inner(), 72), 1);
    finish(image, &media);
    assert_eq!(images::word(media.image.inner(), 72), 0);
}

/// A compressed cluster with a bitmap beside it is replaced while somebody reads it.
#[test]
fn a_held_read_of_a_compressed_cluster_among_subclusters() {
    let (media, image) = held(extended());
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &[4; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    media.image.hold_range(READS, 0x5_0000..0x6_0000);
    thread::scope(|scope| {
        let _released = Released(&media.image);
        let reader = scope.spawn(|| read(&image, 5 * SUB, 512));
        media.image.wait_for(1);
        image.write_at(0, &[5; CLUSTER as usize]).unwrap();
        for number in 1..4 {
            image.flush().unwrap();
            image.write_at(number * CLUSTER, &[6; CLUSTER as usize]).unwrap();
        }
        media.image.release();
        assert_eq!(reader.join().unwrap(), [4; 512]);
    });
    finish(image, &media);
}

/// The layer below may be slow: who reads it meanwhile sees it, not half a copy.
#[test]
fn a_copy_from_below_is_seen_with_its_data_or_not_at_all() {
    let media = extended().memory().wrapped(|file| HoldStorage::new((**file).clone()));
    let image = extended().open(&media, Some(Arc::new(TestBacking::new(vec![7; 1 << 20]))));
    let pending = image.begin_write(5 * SUB + 100, 100).unwrap();
    image.execute(pending.plan(), &[1; 100]).unwrap();
    assert_eq!(read(&image, 5 * SUB, SUB as usize), [7; SUB as usize]);
    pending.publish().unwrap();
    assert_eq!(read(&image, 5 * SUB, SUB as usize)[98..102], [7, 7, 1, 1]);
    assert_eq!(read(&image, 6 * SUB, 100), [7; 100]);
    finish(image, &media);
}

/// The last blob of a cluster goes, and a new one is packed while the hole is on its way.
#[test]
fn trap_95_no_blob_is_packed_into_a_cluster_that_is_being_punched() {
    for kind in [Kind::standard(1 << 20, 16), Kind::standard(1 << 20, 16).lazy()] {
        let (media, image) = held(kind);
        let mut compressor = image.compressor().unwrap();
        image.write_compressed_at(&mut compressor, 0, &[1; CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        image.discard_at(0, CLUSTER).unwrap();
        media.image.hold(PUNCHES);
        thread::scope(|scope| {
            let _released = Released(&media.image);
            scope.spawn(|| image.flush().unwrap());
            media.image.wait_for(1);
            let data = [2; CLUSTER as usize];
            image.write_compressed_at(&mut compressor, CLUSTER, &data).unwrap();
            media.image.release();
        });
        assert_eq!(read(&image, CLUSTER, CLUSTER as usize), [2; CLUSTER as usize]);
        finish(image, &media);
        let image = kind.open(&media, None);
        assert_eq!(read(&image, CLUSTER, CLUSTER as usize), [2; CLUSTER as usize]);
    }
}
