//! Flush plans as text: which metadata goes out in which order, with a barrier after each stage.

use std::sync::Arc;

use cow_engine::{Backing, Image, ZeroMode};

use crate::images::{self, memory, open, open_over, word};
use crate::kinds::{Data, Kind};
use crate::power::assert_closed;
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

#[test]
fn trap_83_counts_that_wait_put_the_dirty_bit_first() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let media = kind.memory();
    let image = kind.open(&media, None);
    // Nothing to say yet.
    insta::assert_snapshot!("lazy_nothing", flush(&image));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("lazy_first", flush(&image));
    assert_eq!(word(&*media.image, 72), 1, "the dirty bit is on the disk");
    image.write_at(CLUSTER, &[1; 512]).unwrap();
    insta::assert_snapshot!("lazy_second", flush(&image));
    image.write_at(CLUSTER, &[2; 512]).unwrap();
    insta::assert_snapshot!("lazy_overwrite", flush(&image));
    image.discard_at(0, CLUSTER).unwrap();
    insta::assert_snapshot!("lazy_discard", flush(&image));
    // Counts first, then the bit goes.
    let counts = word(&*media.image, images::REFCOUNT_BLOCK * CLUSTER + 8);
    assert_eq!(counts, 0, "no count has reached the disk");
    image.close().unwrap();
    assert_eq!(word(&*media.image, 72), 0);
    assert_closed(&images::bytes(&*media.image));
}

#[test]
fn an_overwrite_alone_makes_no_lazy_image_dirty() {
    let kind = Kind::standard(1 << 20, 16).lazy();
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 512]).unwrap();
    image.close().unwrap();
    let image = kind.open(&media, None);
    image.write_at(0, &[2; 512]).unwrap();
    insta::assert_snapshot!(flush(&image));
    assert_eq!(word(&*media.image, 72), 0);
}

#[test]
fn a_data_file_is_durable_before_its_entries() {
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside);
    let image = kind.open(&kind.memory(), Some(Arc::clone(&backing)));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("outside_first", flush(&image));
    image.discard_at(0, CLUSTER).unwrap();
    // Nothing is counted down; the hole comes last.
    insta::assert_snapshot!("outside_discard", flush(&image));
    let image = kind.lazy().open(&kind.lazy().memory(), Some(backing));
    image.write_at(0, &[1; 512]).unwrap();
    insta::assert_snapshot!("outside_lazy", flush(&image));
}

#[test]
fn subclusters_of_one_cluster_are_one_entry() {
    let kind = Kind::extended(1 << 20, 16);
    let image = kind.open(&kind.memory(), None);
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.write_at(4096, &[1; 512]).unwrap();
    image.write_zeroes_at(8192, 2048, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!("subclusters_kept", flush(&image));
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Unmap).unwrap();
    insta::assert_snapshot!("subclusters_given_back", flush(&image));
}

/// Each call of the storage in the order of the plan: data, then the first barrier, and so on.
#[test]
fn the_calls_come_in_the_order_of_the_plan() {
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside).lazy();
    let power = crate::power::Power::on(&kind.memory(), crate::power::none_lost);
    let image = kind.open(power.media(), None);
    image.write_at(0, &[1; 512]).unwrap();
    image.flush().unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    image.close().unwrap();
    insta::assert_snapshot!(power.log().text());
}
