//! Layouts as text, and the sums they stand for.

use insta::assert_snapshot;
use qcow2_format::{ClusterBits, RefcountOrder, Version};

use super::*;

fn options(virtual_size: u64, cluster_bits: u32) -> CreateOptions {
    let cluster_bits = ClusterBits::new(cluster_bits).unwrap();
    CreateOptions { cluster_bits, ..CreateOptions::new(virtual_size) }
}

fn stretch(first: u64, count: u64, zero: bool) -> Stretch {
    Stretch { first, count, zero }
}

fn layout(options: &CreateOptions, stretches: &[Stretch]) -> StreamLayout {
    StreamLayout::new(options, stretches.to_vec()).unwrap()
}

#[test]
fn an_empty_disk_is_tables_alone() {
    assert_snapshot!(layout(&options(1 << 30, 16), &[]));
}

#[test]
fn a_disk_without_bytes_has_no_l1_table() {
    assert_snapshot!(layout(&options(0, 16), &[]));
}

#[test]
fn data_lies_in_guest_order_behind_the_tables_it_needs() {
    let stretches = [stretch(0, 2, false), stretch(5, 1, true), stretch(8191, 2, false)];
    assert_snapshot!(layout(&options(4 << 30, 16), &stretches));
}

#[test]
fn blocks_count_themselves() {
    let options =
        CreateOptions { refcount_order: RefcountOrder::new(6).unwrap(), ..options(4 << 20, 9) };
    // 64 counts to a block, 64 blocks to a cluster of the table.
    assert_snapshot!(layout(&options, &[stretch(0, 8192, false)]));
}

#[test]
fn version_2_is_laid_out_alike() {
    let options = CreateOptions { version: Version::V2, ..options(1 << 20, 16) };
    assert_snapshot!(layout(&options, &[stretch(3, 1, false)]));
}

#[test]
fn what_no_table_can_count_is_refused() {
    let narrow = options(1 << 37, 9);
    let wide = CreateOptions { refcount_order: RefcountOrder::new(6).unwrap(), ..narrow.clone() };
    let all = vec![stretch(0, 1 << 28, false)];
    assert!(StreamLayout::new(&narrow, all.clone()).is_err());
    let refused = StreamLayout::new(&wide, all).unwrap_err();
    assert_snapshot!(refused, @"272695299 clusters are more than the refcount table can count, use a larger cluster size");
    assert!(StreamLayout::new(&wide, vec![stretch(0, 1 << 25, false)]).is_ok());
}
