//! Header fields that cannot be: every program names the field and its offset.

use testkit::Folder;

use super::image::{CLUSTER, Image, Poke, u32_at, u64_at};
use super::program::{ALL, Use, assert_all_refuse};

/// Fields that make the image unusable for everybody.
#[test]
fn fields_that_cannot_be() {
    let (folder, image) = (Folder::new(), Image::new());
    let max = u32::MAX;
    let cases: Vec<(&str, &str, Vec<Poke>)> = vec![
        ("magic", "0x51464900", vec![u32_at(0, 0x5146_4900)]),
        ("version", "0x4", vec![u32_at(4, 1)]),
        ("version", "0x4", vec![u32_at(4, 4)]),
        ("backing_file_offset", "0x8", vec![u64_at(8, 1 << 40), u32_at(16, 20)]),
        ("backing_file_size", "0x10", vec![u64_at(8, 0x200), u32_at(16, 2000)]),
        ("cluster_bits", "0x14", vec![u32_at(20, 8)]),
        ("cluster_bits", "0x14", vec![u32_at(20, 22)]),
        ("cluster_bits", "0x14", vec![u32_at(20, max)]),
        ("l1_size", "0x24", vec![u64_at(24, u64::MAX)]),
        ("l1_size", "0x24", vec![u64_at(24, 1 << 50)]),
        ("crypt_method", "0x20", vec![u32_at(32, 3)]),
        ("l1_size", "0x24", vec![u32_at(36, 0)]),
        ("l1_size", "0x24", vec![u32_at(36, max)]),
        ("l1_table_offset", "0x28", vec![u64_at(40, image.l1 + 512)]),
        ("refcount_table_offset", "0x30", vec![u64_at(48, image.refcount_table + 1)]),
        ("refcount_table_clusters", "0x38", vec![u32_at(56, max)]),
        ("nb_snapshots", "0x3c", vec![u32_at(60, max), u64_at(64, CLUSTER)]),
        ("snapshots_offset", "0x40", vec![u64_at(64, 512)]),
        ("incompatible_features bit 5", "header", vec![u64_at(72, 1 << 5)]),
        ("compression_type", "0x68", vec![u64_at(72, 1 << 3), (104, vec![2])]),
        ("refcount_order", "0x60", vec![u32_at(96, 7)]),
        ("header_length", "0x64", vec![u32_at(100, 0)]),
        ("header_length", "0x64", vec![u32_at(100, max - 7)]),
        ("length", "0x74", vec![u32_at(112, 0x1234_5678), u32_at(116, max - 15)]),
    ];
    for (field, offset, pokes) in cases {
        assert_all_refuse(&folder, &image.poked(&pokes), &ALL, &[field, offset]);
    }
}

/// Images that are sound, but need what is not supported: the feature is named.
#[test]
fn features_that_are_not_supported() {
    let (folder, image) = (Folder::new(), Image::new());
    let uses = [Use::Map, Use::Convert, Use::Compare, Use::Read, Use::Write];
    let data_file = image.poked(&[u64_at(72, 1 << 2)]);
    assert_all_refuse(&folder, &data_file, &uses, &["external data file"]);
    let corrupt = image.poked(&[u64_at(72, 1 << 1)]);
    assert_all_refuse(
        &folder,
        &corrupt,
        &[Use::Write],
        &["incompatible_features bit 1", "corrupt"],
    );
}

/// An image that was not closed cleanly is put in order before it is written.
#[test]
fn a_dirty_image_is_repaired_by_whoever_writes() {
    let (folder, image) = (Folder::new(), Image::new());
    let path = folder.write("dirty.qcow2", &image.poked(&[u64_at(72, 1)]));
    Use::Read.run(&folder, &path).success();
    assert_eq!(std::fs::read(&path).unwrap()[79], 1, "a reader leaves it as it is");
    Use::Write.run(&folder, &path).success();
    assert_eq!(std::fs::read(&path).unwrap()[79], 0);
    Use::Check.run(&folder, &path).success();
}
