//! The census itself: one that cannot fail would prove nothing.

use crate::census::{assert_clean, take};
use crate::images;
use crate::kinds::{Data, Kind};
use crate::power::complaint;

fn written() -> Vec<u8> {
    let storage = images::memory(1 << 20, 16);
    let image = images::open(&storage);
    image.write_at(0, &[1; 100]).unwrap();
    image.write_at(5 << 16, &[1; 100]).unwrap();
    image.close().unwrap();
    images::bytes(&*storage)
}

#[test]
fn a_good_image_is_clean() {
    assert_clean(&written());
}

#[test]
fn a_count_too_low_is_a_loss_and_one_too_high_a_leak() {
    let mut image = written();
    let data = 0x2_0000 + 5 * 2;
    image[data + 1] = 0;
    assert!(take(&image).losses[0].contains("cluster 5: count 0, references 1"));
    image[data + 1] = 1;
    image[data + 7] = 1;
    assert_eq!((take(&image).losses, take(&image).leaks), (vec![], 1));
}

#[test]
fn a_second_reference_is_a_loss() {
    let mut image = written();
    let first = image[0x4_0000..0x4_0008].to_vec();
    image[0x4_0028..0x4_0030].copy_from_slice(&first);
    assert!(!take(&image).losses.is_empty());
}

#[test]
fn bitmaps_that_mean_nothing_are_noticed() {
    let kind = Kind::extended(1 << 20, 16);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(0, &[1; 2048]).unwrap();
    image.close().unwrap();
    let good = images::bytes(&*media.image);
    assert_clean(&good);
    let damaged = |at: usize, byte: u8| {
        let mut image = good.clone();
        image[0x4_0000 + at] |= byte;
        take(&image).nonsense
    };
    assert!(damaged(11, 1)[0].contains("bitmap"), "allocated and zero");
    assert!(damaged(31, 1)[0].contains("bitmap"), "allocated without a cluster");
    assert!(damaged(7, 1)[0].contains("zero flag"));
    assert!(damaged(27, 1).is_empty(), "zeros without a cluster are fine");
}

#[test]
fn external_data_must_lie_at_its_guest_offset() {
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside);
    let media = kind.memory();
    let image = kind.open(&media, None);
    image.write_at(5 << 16, &[1; 2048]).unwrap();
    image.close().unwrap();
    let mut image = images::bytes(&*media.image);
    assert_clean(&image);
    image[0x4_0000 + 5 * 8 + 5] ^= 1;
    assert!(take(&image).nonsense[0].contains("elsewhere"));
}

#[test]
fn a_dirty_image_may_count_too_low_and_must_not_share_clusters() {
    let mut image = written();
    let data = 0x2_0000 + 5 * 2;
    image[data + 1] = 0;
    image[79] |= 1;
    assert_eq!(complaint(&take(&image)), None);
    let first = image[0x4_0000..0x4_0008].to_vec();
    image[0x4_0028..0x4_0030].copy_from_slice(&first);
    assert!(complaint(&take(&image)).unwrap().contains("used 2 times"));
}

#[test]
fn a_wrong_copied_flag_is_a_loss() {
    let mut image = written();
    image[0x4_0000] &= 0x7f;
    assert!(take(&image).losses[0].contains("not COPIED, count 1"));
}
