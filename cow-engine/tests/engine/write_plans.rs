//! Write plans as text: what a write is going to do, before it does it.

use std::sync::Arc;

use cow_engine::{Backing, Image, ZeroMode};
use qcow2_format::Version;

use crate::images::{self, l2_entry_at, memory, open, open_over, poke};
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

/// The plan of a write that is then given up.
fn plan(image: &Image, offset: u64, len: u64) -> String {
    image.begin_write(offset, len).unwrap().plan().to_string()
}

fn backing(len: usize) -> Option<Arc<dyn Backing>> {
    Some(Arc::new(TestBacking::new(vec![7; len])))
}

#[test]
fn first_write() {
    let image = open(&memory(1 << 20, 16));
    insta::assert_snapshot!(plan(&image, 0x1000, 0x200));
}

#[test]
fn first_write_of_a_whole_cluster() {
    let image = open(&memory(1 << 20, 16));
    insta::assert_snapshot!(plan(&image, CLUSTER, CLUSTER));
}

#[test]
fn overwrite() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 2 * CLUSTER as usize]).unwrap();
    insta::assert_snapshot!(plan(&image, 0x1000, 0x1_0000));
}

#[test]
fn partial_write_over_a_backing_cluster() {
    let image = open_over(&memory(1 << 20, 16), backing(1 << 20));
    insta::assert_snapshot!(plan(&image, 0x3_1000, 0x200));
}

#[test]
fn partial_write_over_a_plain_zero_cluster() {
    let image = open_over(&memory(1 << 20, 16), backing(1 << 20));
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!(plan(&image, 0x1000, 0x200));
}

#[test]
fn partial_write_over_an_allocated_zero_cluster() {
    let image = open_over(&memory(1 << 20, 16), backing(1 << 20));
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap();
    insta::assert_snapshot!(plan(&image, 0x1000, 0x200));
}

#[test]
fn partial_write_over_a_compressed_cluster() {
    let image = open(&memory(1 << 20, 16));
    // A blob of 119 bytes: what the compressor makes of something is its own business.
    image.write_blob(0, &[0x55; 119]).unwrap();
    insta::assert_snapshot!(plan(&image, 0x1000, 0x200));
}

/// An image whose first cluster is flushed and then shared: COPIED is gone from its entry.
fn shared(poke_l1: bool) -> Image {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.close().unwrap();
    poke(&*storage, l2_entry_at(&*storage, 0), |entry| entry & !(1 << 63));
    if poke_l1 {
        poke(&*storage, images::L1_TABLE * CLUSTER, |entry| entry & !(1 << 63));
    }
    open(&storage)
}

#[test]
fn partial_write_over_a_shared_cluster() {
    insta::assert_snapshot!(plan(&shared(false), 0x1000, 0x200));
}

#[test]
fn partial_write_below_a_shared_l2_table() {
    // The copy of the table takes the first free cluster.
    insta::assert_snapshot!(plan(&shared(true), 0x1000, 0x200));
}

#[test]
fn write_across_an_l2_boundary() {
    // 64 entries of 512 bytes: a table maps 32 KiB.
    let image = open(&memory(1 << 20, 9));
    insta::assert_snapshot!(plan(&image, 0x7f00, 0x300));
}

#[test]
fn write_at_the_end_of_an_unaligned_disk() {
    let image = open_over(&memory(100 * 1024, 16), backing(1 << 20));
    insta::assert_snapshot!(plan(&image, 0x1_8000, 0x1000));
}

#[test]
fn write_at_the_end_of_an_unaligned_disk_over_a_shorter_layer() {
    let image = open_over(&memory(100 * 1024, 16), backing(70_000));
    insta::assert_snapshot!(plan(&image, 0x1_8000, 0x1000));
}

#[test]
fn several_clusters_at_once() {
    let image = open_over(&memory(1 << 20, 16), backing(1 << 20));
    insta::assert_snapshot!(plan(&image, 0x8000, 0x3_0000));
}

#[test]
fn a_mixture_of_kinds() {
    let image = open_over(&memory(1 << 20, 16), backing(1 << 20));
    image.write_at(CLUSTER, &[1; CLUSTER as usize]).unwrap();
    image.write_at(2 * CLUSTER, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    insta::assert_snapshot!(plan(&image, 0x8000, 0x3_0000));
}

#[test]
fn fragmented_free_space() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 6 * CLUSTER as usize]).unwrap();
    image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.write_zeroes_at(3 * CLUSTER, 2 * CLUSTER, ZeroMode::Unmap).unwrap();
    // Freed clusters come back only after a flush.
    insta::assert_snapshot!(plan(&image, 8 * CLUSTER, 4 * CLUSTER));
    image.flush().unwrap();
    insta::assert_snapshot!(plan(&image, 8 * CLUSTER, 4 * CLUSTER));
}

#[test]
fn version_2_writes_the_same_way() {
    let storage = Arc::new(block_io::MemoryStorage::new());
    cow_engine::create(&*storage, &images::options(1 << 20, 12, Version::V2)).unwrap();
    let image = open(&storage);
    insta::assert_snapshot!(plan(&image, 0x1800, 0x1000));
}

#[test]
fn a_plan_given_up_changes_nothing() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    image.write_at(0, &[1; 10]).unwrap();
    let first = plan(&image, CLUSTER, 10);
    // Not fresh any more: whoever held the plan may have written there.
    let again = plan(&image, CLUSTER, 10);
    assert_eq!(first.replace(" (fresh)", ""), again);
    image.close().unwrap();
    crate::census::assert_clean(&images::bytes(&*storage));
}

#[test]
fn an_empty_write_is_an_empty_plan() {
    let image = open(&memory(1 << 20, 16));
    insta::assert_snapshot!(plan(&image, 1 << 20, 0));
}
