//! Flush plans as text: which metadata goes out in which order, with a barrier after each stage.

use std::sync::Arc;

use cow_engine::{Image, ZeroMode};

use crate::images::{memory, open, open_over};
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

fn flush(image: &Image) -> String {
    image.flush_traced().unwrap().to_string()
}

#[test]
fn trap_81_first_write() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
    // Nothing is left to do.
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn trap_80_second_write() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(CLUSTER, &[1; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn overwrite_only() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(0, &[2; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn trap_82_copy_on_write() {
    let image = open_over(&memory(1 << 20, 16), Some(Arc::new(TestBacking::new(vec![7; 1 << 20]))));
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_blob(CLUSTER, &[0x55; 100]).unwrap();
    image.flush().unwrap();
    // The blob's cluster is counted down once its entry is gone.
    image.write_at(CLUSTER, &[1; CLUSTER as usize]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn given_back_by_zeroing() {
    let image = open(&memory(1 << 20, 16));
    image.write_at(0, &[1; 3 * CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    image.write_zeroes_at(0, 2 * CLUSTER, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn a_new_refcount_block() {
    // One block of 512 bytes counts 256 clusters, 128 KiB.
    let image = open(&memory(1 << 20, 9));
    image.write_at(0, &[1; 120 << 10]).unwrap();
    image.flush().unwrap();
    image.write_at(120 << 10, &[1; 8 << 10]).unwrap();
    insta::assert_snapshot!(flush(&image));
}

#[test]
fn growth_of_the_refcount_table() {
    // One table cluster of 64 blocks counts 16384 clusters, 8 MiB. Growth itself is synced when
    // it happens; the flush after it frees the old table.
    let image = open(&memory(16 << 20, 9));
    let mut at = 0;
    while image.storage().len().unwrap() < 8 << 20 {
        image.write_at(at, &[1; 1 << 10]).unwrap();
        at += 1 << 10;
        if image.storage().len().unwrap() < (8 << 20) - 4096 {
            image.flush().unwrap();
        }
    }
    image.write_at(at, &[1; 1 << 10]).unwrap();
    insta::assert_snapshot!(flush(&image));
}
