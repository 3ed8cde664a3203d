//! Growth of the refcount structures: past the first block, past the first table, and both again.

use std::sync::Arc;

use block_io::{Create, Locking, OpenOptions as FileOptions, Storage};
use cow_engine::{Image, OpenOptions, ZeroMode};
use qcow2_format::Version;
use testkit::{Folder, Pattern, Qemu};

use crate::census;
use crate::images::{self, options};

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
