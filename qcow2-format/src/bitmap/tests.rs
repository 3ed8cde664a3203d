//! Tests of the bitmap directory and tables.

use proptest::prelude::*;

use super::*;
use crate::geometry::{ClusterBits, Geometry, L2Layout, RefcountOrder};
use crate::unit::HostOffset;

fn geometry() -> Geometry {
    Geometry::new(ClusterBits::DEFAULT, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

fn entry(name: &[u8]) -> BitmapDirectoryEntry {
    let table = HostOffset::new(0x90000);
    BitmapDirectoryEntry::new(geometry(), table, 1, BitmapFlags::AUTO, 16, name).unwrap()
}

fn directory(names: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        entry(name).encode_into(&mut bytes);
    }
    bytes
}

#[test]
fn entries_are_padded_to_multiples_of_8() {
    let bytes = directory(&[b"b0", b"12345678"]);
    assert_eq!(bytes.len(), 32 + 32);
    let entries = decode_bitmap_directory(geometry(), &bytes, 2).unwrap();
    assert_eq!(entries, [entry(b"b0"), entry(b"12345678")]);
    let flags = entries[0].flags().with(BitmapFlags::IN_USE).without(BitmapFlags::AUTO);
    assert_eq!(entries[0].clone().with_flags(flags).flags(), BitmapFlags::IN_USE);
    assert!(!flags.contains(BitmapFlags::AUTO));
}

#[test]
fn trap_58_what_the_limits_forbid_is_refused_with_its_place() {
    let poked = |at: usize, new: &[u8]| {
        let mut bytes = directory(&[b"b0"]);
        bytes[at..at + new.len()].copy_from_slice(new);
        decode_bitmap_directory(geometry(), &bytes, 1).unwrap_err().to_string()
    };
    let texts = [
        poked(0, &0_u64.to_be_bytes()),
        poked(0, &0x90200_u64.to_be_bytes()),
        poked(8, &0_u32.to_be_bytes()),
        poked(8, &8193_u32.to_be_bytes()),
        poked(12, &4_u32.to_be_bytes()),
        poked(16, &[2]),
        poked(17, &[8]),
        poked(17, &[32]),
        poked(18, &0_u16.to_be_bytes()),
        poked(18, &1024_u16.to_be_bytes()),
        poked(18, &9_u16.to_be_bytes()),
        poked(20, &1_u32.to_be_bytes()),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    bitmap directory: bitmap_table_offset at offset 0x0 is 0x0, allowed is a multiple of the cluster size, not 0
    bitmap directory: bitmap_table_offset at offset 0x0 is 0x90200, allowed is a multiple of the cluster size, not 0
    bitmap directory: bitmap_table_size at offset 0x8 is 0, allowed is 1 to 512 MiB of bitmap data
    bitmap directory: bitmap_table_size at offset 0x8 is 8193, allowed is 1 to 512 MiB of bitmap data
    bitmap directory: flags at offset 0xc is 0x4, allowed is bits 0 and 1
    bitmap directory: type at offset 0x10 is 2, allowed is 1
    bitmap directory: granularity_bits at offset 0x11 is 8, allowed is 9..=31
    bitmap directory: granularity_bits at offset 0x11 is 32, allowed is 9..=31
    bitmap directory: name_size at offset 0x12 is 0, allowed is 1..=1023
    bitmap directory: name_size at offset 0x12 is 1024, allowed is 1..=1023
    bitmap directory: entry at offset 0x0 is cut off after 32 bytes, allowed is the whole name
    bitmap directory: extra_data_size at offset 0x14 is 1, allowed is 0
    ");
}

#[test]
fn the_directory_must_be_filled_by_exactly_as_many_entries() {
    let bytes = directory(&[b"b0", b"b1"]);
    let decode = |bytes: &[u8], count| decode_bitmap_directory(geometry(), bytes, count);
    assert!(decode(&bytes, 2).is_ok());
    insta::assert_snapshot!(decode(&bytes, 1).unwrap_err(), @"bitmap directory: entry count is 2, allowed is as many entries as the header extension says");
    insta::assert_snapshot!(decode(&bytes, 3).unwrap_err(), @"bitmap directory: entry count is 2, allowed is as many entries as the header extension says");
    insta::assert_snapshot!(decode(&bytes[..60], 2).unwrap_err(), @"bitmap directory: entry at offset 0x20 is cut off after 28 bytes, allowed is padding to a multiple of 8");
    insta::assert_snapshot!(decode(&bytes[..40], 2).unwrap_err(), @"bitmap directory: entry at offset 0x20 is cut off after 8 bytes, allowed is a head of 24 bytes");
}

#[test]
fn trap_60_an_offset_together_with_the_all_ones_bit_is_invalid() {
    let decode = |bits| BitmapTableEntry::from_bits(bits).decode(geometry(), 8);
    assert_eq!(decode(0), Ok(BitmapCluster::AllZeros));
    assert_eq!(decode(1), Ok(BitmapCluster::AllOnes));
    assert_eq!(decode(0x80000), Ok(BitmapCluster::Stored(HostOffset::new(0x80000))));
    let texts =
        [0x80001, 0x80002, 1 << 56, 0x80200].map(|bits| decode(bits).unwrap_err().to_string());
    insta::assert_snapshot!(texts.join("\n"), @r"
    bitmap table: entry at offset 0x8 is 0x80001, allowed is an offset or the all-ones bit, not both
    bitmap table: entry at offset 0x8 is 0x80002, allowed is bits 0 and 9..=55
    bitmap table: entry at offset 0x8 is 0x100000000000000, allowed is bits 0 and 9..=55
    bitmap table: entry at offset 0x8 is 0x80200, allowed is an offset that is a multiple of the cluster size
    ");
}

#[test]
fn the_extension_is_checked_against_the_limits() {
    let check = |count, offset, bytes| {
        let extension = BitmapsExtension::new(count, HostOffset::new(offset), bytes);
        extension.validate(geometry(), 120).unwrap_err().to_string()
    };
    let texts = [
        check(0, 0x50000, 32),
        check(65536, 0x50000, 32),
        check(1, 0x50001, 32),
        check(1, 0x50000, 0),
        check(1, 0x50000, 65535 * 1024 + 1),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    header extension 0x23852875: nb_bitmaps at offset 0x78 is 0, allowed is 1..=65535
    header extension 0x23852875: nb_bitmaps at offset 0x78 is 65536, allowed is 1..=65535
    header extension 0x23852875: bitmap_directory_offset at offset 0x88 is 0x50001, allowed is a multiple of the cluster size
    header extension 0x23852875: bitmap_directory_size at offset 0x80 is 0, allowed is 1..=67107840
    header extension 0x23852875: bitmap_directory_size at offset 0x80 is 67107841, allowed is 1..=67107840
    ");
    let extension = BitmapsExtension::new(1, HostOffset::new(0x50000), 32);
    assert_eq!(extension.validate(geometry(), 120), Ok(()));
}

proptest! {
    #[test]
    fn any_directory_decodes_without_panic_and_encodes_back(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..40).prop_map(|name| {
            directory(&[b"first", if name.is_empty() { b"x" } else { &name }])
        }),
        pokes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        for (index, byte) in pokes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(entries) = decode_bitmap_directory(geometry(), &bytes, 2) {
            let mut encoded = Vec::new();
            for entry in &entries {
                entry.encode_into(&mut encoded);
            }
            prop_assert_eq!(encoded, bytes);
        }
    }
}
