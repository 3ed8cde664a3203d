//! Growth of the refcount structures: past the first block, past the first table, and both again.

use std::sync::Arc;

use block_io::{Create, Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{Image, OpenOptions, ResizeOptions, ZeroMode};
use qcow2_format::Version;
use testkit::{Call, CallSet, Fault, FaultStorage, Folder, Pattern, Qemu};

use crate::census;
use crate::images::{self, options, word};
use crate::kinds::Kind;

const STEP: u64 = 64 << 10;

#[test]
fn trap_44_past_the_first_refcount_table() {
    let folder = Folder::new();
    let path = folder.path("grown.qcow2");
    let file = FileOptions::new()
        .write(true)
        .locking(Locking::Off)
        .create(Create::Truncate)
        .open(&path)
        .unwrap();
    let storage: Arc<dyn Storage> = Arc::new(file);
    let size = 18 << 20;
    cow_engine::create(&*storage, &options(size, 9, Version::V3)).unwrap();
    let first_table = images::word(&*storage, 48);
    let pattern = Pattern::new(5);
    let image = Image::open(Arc::clone(&storage), OpenOptions::new()).unwrap();
    for at in (0..size).step_by(STEP as usize) {
        image.write_at(at, &pattern.bytes(at, STEP as usize)).unwrap();
    }
    image.close().unwrap();
    assert_ne!(images::word(&*storage, 48), first_table, "the table has moved");
    assert!(images::word(&*storage, 56) >> 32 >= 3, "and grown");
    Qemu::check(&path);
    let raw = folder.write("expected.raw", &pattern.bytes(0, size as usize));
    Qemu::assert_same(("raw", &raw), ("qcow2", &path));
    // Everything the file holds is in its place for the next session, too.
    let image = Image::open(Arc::clone(&storage), OpenOptions::new()).unwrap();
    image.write_zeroes_at(0, size, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    Qemu::check(&path);
}

#[test]
fn trap_45_small_allocations_across_many_block_boundaries() {
    let storage = images::memory(4 << 20, 9);
    let image = images::open(&storage);
    let pattern = Pattern::new(6);
    // Every other sector, then the rest: tables and data come one by one.
    for start in [0, 512] {
        for at in (start..1 << 20).step_by(1024) {
            image.write_at(at, &pattern.bytes(at, 512)).unwrap();
        }
        image.flush().unwrap();
        census::assert_clean(&images::bytes(&*storage));
    }
    pattern.assert_at(0, &images::read(&image, 0, 1 << 20));
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*storage));
    images::check_clean(&*storage);
}

#[test]
fn the_old_table_is_used_again() {
    let storage = images::memory(16 << 20, 9);
    let image = images::open(&storage);
    for at in (0..9 << 20).step_by(STEP as usize) {
        image.write_at(at, &[3; STEP as usize]).unwrap();
    }
    image.flush().unwrap();
    census::assert_clean(&images::bytes(&*storage));
    // Cluster 1 held the first table and is the lowest free one: the next L2 table goes there.
    image.write_at(12 << 20, &[3; 512]).unwrap();
    image.close().unwrap();
    assert_eq!(images::l2_entry_at(&*storage, 12 << 20), 0x200);
    census::assert_clean(&images::bytes(&*storage));
}

#[test]
fn a_write_that_grows_everything_at_once() {
    // One write of 10 MiB in clusters of 512 bytes: 20480 clusters, 320 L2 tables, 80 blocks.
    let storage = images::memory(12 << 20, 9);
    let image = images::open(&storage);
    let pattern = Pattern::new(7);
    image.write_at(100, &pattern.bytes(100, 10 << 20)).unwrap();
    image.close().unwrap();
    census::assert_clean(&images::bytes(&*storage));
    let image = images::open(&storage);
    pattern.assert_at(100, &images::read(&image, 100, 10 << 20));
}

/// One free cluster at the start, and then none over more refcount blocks than stay in memory: the
/// search for two in a row goes through all of them, and comes to an end.
#[test]
fn a_search_through_more_blocks_than_are_kept_ends() {
    const CLUSTER: u64 = 2 << 20;
    let kind = Kind { refcount_order: 6, ..Kind::standard(1 << 20, 21) };
    let media = kind.memory();
    let storage = &*media.image;
    let (table, first) = (word(storage, 48), word(storage, word(storage, 48)));
    let blocks: Vec<u64> = (0..8).map(|number| (100 + number) * CLUSTER).collect();
    let all_used = [0, 0, 0, 0, 0, 0, 0, 1].repeat(1 << 18);
    let mut lowest = all_used.clone();
    lowest[50 * 8 + 7] = 0;
    storage.write_at(first, &lowest).unwrap();
    for (block, index) in blocks.iter().zip(1..) {
        storage.write_at(*block, &all_used).unwrap();
        storage.write_at(table + index * 8, &block.to_be_bytes()).unwrap();
    }
    let faulty = Arc::new(FaultStorage::new(MemoryStorage::clone(storage)));
    let storage: Arc<dyn Storage> = Arc::<FaultStorage<MemoryStorage>>::clone(&faulty);
    let mut image = Image::open(storage, OpenOptions::new()).unwrap();
    // Each block once would do; a search that starts over and over again is stopped here.
    faulty.arm(Fault::nth(50, CallSet::of(&[Call::Read])));
    // The L1 table needs two clusters.
    image.resize(256 << 50, ResizeOptions::new()).unwrap();
    assert_eq!(faulty.fired(), 0);
}
