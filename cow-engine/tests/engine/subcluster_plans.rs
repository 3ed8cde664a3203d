//! Plans for images with subclusters as text: what is written, what is copied around it, and the
//! bitmap that is published.

use std::sync::Arc;

use block_io::MemoryStorage;
use cow_engine::{Backing, Image, Preallocation, ZeroMode};

use crate::images::{poke, word};
use crate::kinds::{Data, Kind, Media};
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;
/// A subcluster.
const SUB: u64 = CLUSTER / 32;

fn backing() -> Option<Arc<dyn Backing>> {
    Some(Arc::new(TestBacking::new(vec![7; 1 << 20])))
}

fn kind() -> Kind {
    Kind::extended(1 << 20, 16)
}

/// A new image over a layer full of data.
fn image() -> Image {
    kind().open(&kind().memory(), backing())
}

/// The plan of a write that is then given up.
fn plan(image: &Image, offset: u64, len: u64) -> String {
    image.begin_write(offset, len).unwrap().plan().to_string()
}

#[test]
fn the_first_write_takes_the_subclusters_that_it_touches() {
    let image = image();
    insta::assert_snapshot!("first_write_inside_one", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("first_write_across_two", plan(&image, 6 * SUB - 100, 200));
    insta::assert_snapshot!("first_write_of_whole_ones", plan(&image, 6 * SUB, 3 * SUB));
    insta::assert_snapshot!("first_write_across_clusters", plan(&image, CLUSTER - 100, CLUSTER));
}

#[test]
fn without_a_layer_zeros_need_no_copy_in_a_new_cluster() {
    let image = kind().open(&kind().memory(), None);
    insta::assert_snapshot!(plan(&image, 5 * SUB + 100, 200));
}

#[test]
fn a_written_subcluster_is_written_in_place_and_its_neighbour_is_not() {
    let image = image();
    image.write_at(5 * SUB, &[1; SUB as usize]).unwrap();
    insta::assert_snapshot!("in_place", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("neighbour", plan(&image, 6 * SUB + 100, 200));
    // Only the part that holds nothing yet needs its old bytes.
    insta::assert_snapshot!("both", plan(&image, 6 * SUB - 100, 200));
}

#[test]
fn zero_subclusters_are_filled_with_zeros() {
    let image = image();
    image.write_zeroes_at(4 * SUB, 2 * SUB, ZeroMode::Keep).unwrap();
    insta::assert_snapshot!("zero_plain", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("zero_plain_and_below", plan(&image, 6 * SUB - 100, 200));
    image.write_at(0, &[1; CLUSTER as usize]).unwrap();
    image.write_zeroes_at(4 * SUB, 2 * SUB, ZeroMode::Keep).unwrap();
    insta::assert_snapshot!("zero_allocated", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("zero_allocated_and_data", plan(&image, 6 * SUB - 100, 200));
}

#[test]
fn a_mixed_bitmap_keeps_what_is_not_written() {
    let image = image();
    image.write_at(0, &[1; 8 * SUB as usize]).unwrap();
    image.write_zeroes_at(2 * SUB, 2 * SUB, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(20 * SUB, SUB, ZeroMode::Keep).unwrap();
    insta::assert_snapshot!("mixed_bitmap", plan(&image, 3 * SUB + 512, 8 * SUB));
    insta::assert_snapshot!("mixed_bitmap_whole_cluster", plan(&image, 0, CLUSTER));
    insta::assert_snapshot!("mixed_bitmap_read", image.plan_read(0, CLUSTER).unwrap());
}

#[test]
fn trap_28_a_compressed_cluster_is_replaced_as_a_whole() {
    let image = image();
    // What the compressor makes of something is its own business.
    image.write_blob(0, &[0x55; 119]).unwrap();
    insta::assert_snapshot!(plan(&image, 5 * SUB + 100, 200));
}

#[test]
fn trap_27_a_prepared_cluster_is_filled_in_its_place() {
    let kind = Kind { preallocation: Preallocation::Metadata, ..kind() };
    let image = kind.open(&kind.memory(), backing());
    insta::assert_snapshot!("prepared", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("prepared_clusters", plan(&image, CLUSTER - 100, 2 * CLUSTER));
    insta::assert_snapshot!("prepared_read", image.plan_read(0, 2 * CLUSTER).unwrap());
}

/// An image with a mixed first cluster that lacks COPIED.
fn shared() -> (Media<MemoryStorage>, Image) {
    let media = kind().memory();
    let image = kind().open(&media, backing());
    image.write_at(4 * SUB, &[1; 8 * SUB as usize]).unwrap();
    image.write_zeroes_at(6 * SUB, SUB, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(28 * SUB, SUB, ZeroMode::Keep).unwrap();
    image.close().unwrap();
    let table = word(&*media.image, word(&*media.image, 40)) & 0x00ff_ffff_ffff_fe00;
    poke(&*media.image, table, |entry| entry & !(1 << 63));
    let image = kind().open(&media, backing());
    (media, image)
}

#[test]
fn a_shared_cluster_is_copied_from_its_first_to_its_last_data() {
    let (_media, image) = shared();
    insta::assert_snapshot!("shared_inside", plan(&image, 5 * SUB + 100, 200));
    insta::assert_snapshot!("shared_behind", plan(&image, 20 * SUB + 100, 200));
    insta::assert_snapshot!("shared_before", plan(&image, 2 * SUB + 100, 200));
    let before = crate::images::read(&image, 0, CLUSTER as usize);
    image.write_at(20 * SUB + 100, &[9; 200]).unwrap();
    let mut expected = before;
    expected[20 * SUB as usize + 100..][..200].fill(9);
    assert!(crate::images::read(&image, 0, CLUSTER as usize) == expected);
}

#[test]
fn the_end_of_the_disk_ends_a_subcluster() {
    let kind = Kind::extended(CLUSTER + 5 * SUB + 512, 16);
    let image = kind.open(&kind.memory(), backing());
    insta::assert_snapshot!(plan(&image, CLUSTER + 5 * SUB + 100, 412));
}

#[test]
fn an_external_data_file_leaves_no_choice() {
    let kind = Kind::extended(CLUSTER + 5 * SUB + 512, 16).with_data(Data::Outside);
    let image = kind.open(&kind.memory(), backing());
    insta::assert_snapshot!("outside", plan(&image, CLUSTER - SUB, 2 * SUB));
    insta::assert_snapshot!("outside_end_of_disk", plan(&image, CLUSTER + 5 * SUB + 100, 200));
}

#[test]
fn the_smallest_and_the_largest_subclusters() {
    let kind = Kind::extended(1 << 20, 14);
    insta::assert_snapshot!(
        "subclusters_of_512",
        plan(&kind.open(&kind.memory(), backing()), 1000, 100)
    );
    let kind = Kind::extended(8 << 20, 21);
    insta::assert_snapshot!(
        "subclusters_of_64k",
        plan(&kind.open(&kind.memory(), backing()), 1000, 100)
    );
}
