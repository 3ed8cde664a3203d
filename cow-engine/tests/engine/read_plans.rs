//! Read plans as text: where bytes come from.

use std::sync::Arc;

use cow_engine::ZeroMode;

use crate::images::{memory, open, open_over};
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;

#[test]
fn every_kind_of_run() {
    let image = open_over(&memory(1 << 20, 16), Some(Arc::new(TestBacking::new(vec![7; 1 << 20]))));
    image.write_at(CLUSTER, &[1; 2 * CLUSTER as usize]).unwrap();
    image.write_zeroes_at(3 * CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.write_at(4 * CLUSTER, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(4 * CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    image.write_blob(5 * CLUSTER, &[0x55; 700]).unwrap();
    image.write_blob(6 * CLUSTER, &[0x55; 700]).unwrap();
    insta::assert_snapshot!(image.plan_read(0x1000, 0x7_0000).unwrap());
}

#[test]
fn an_image_without_tables_asks_below_for_everything() {
    let image = open(&memory(1 << 30, 9));
    insta::assert_snapshot!(image.plan_read(0, 1 << 30).unwrap());
}

#[test]
fn across_an_l2_boundary_runs_go_on() {
    let image = open(&memory(1 << 20, 9));
    image.write_at(0x7e00, &[1; 0x200]).unwrap();
    image.write_at(0x8000, &[1; 0x200]).unwrap();
    // A table was made in between.
    insta::assert_snapshot!(image.plan_read(0x7c00, 0x800).unwrap());
}

#[test]
fn the_end_of_an_unaligned_disk() {
    let image = open(&memory(100 * 1024, 16));
    image.write_at(0x1_8000, &[1; 0x1000]).unwrap();
    insta::assert_snapshot!(image.plan_read(0x1_0000, 0x9000).unwrap());
    assert!(image.plan_read(0x1_0000, 0x9001).is_err());
}
