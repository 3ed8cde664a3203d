//! Tests of the header: what is refused and how, and what survives.

use proptest::prelude::*;

use super::*;
use crate::feature::{AutoclearFeatures, CompatibleFeatures};
use crate::geometry::{L2Layout, RefcountOrder};

mod extensions;
mod refused;
mod rewriting;
mod switching;

fn geometry(cluster_bits: u32) -> Geometry {
    let bits = ClusterBits::new(cluster_bits).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

fn table(offset: u64, count: u32) -> TablePointer {
    TablePointer { offset: HostOffset::new(offset), count }
}

/// A 64 MiB image with 64 KiB clusters, as the reference implementation lays it out.
fn builder() -> HeaderBuilder {
    HeaderBuilder::new(geometry(16), 64 << 20)
        .l1_table(table(0x30000, 1))
        .refcount_table(table(0x10000, 1))
}

fn bytes() -> Vec<u8> {
    builder().build().unwrap().encode()
}

/// The bytes of [`bytes`] with other bytes put over them.
fn poked(pokes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = bytes();
    for (at, new) in pokes {
        bytes[*at..at + new.len()].copy_from_slice(new);
    }
    bytes
}

fn word(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn long(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

#[test]
fn a_decoded_header_renders_like_this() {
    let header = builder().backing(b"base.raw", Some(b"raw")).build().unwrap();
    insta::assert_debug_snapshot!(Header::decode(&header.encode()).unwrap());
}

#[test]
fn the_start_is_enough_where_a_backing_file_is_named() {
    let backed = builder().backing(b"base.raw", Some(b"raw")).build().unwrap().encode();
    let name = backed.windows(8).position(|window| window == b"base.raw").unwrap();
    let whole = Header::decode(&backed).unwrap();
    assert_eq!(Header::decode_start(&backed[..name + 8]), Some(whole));
    assert_eq!(Header::decode_start(&backed[..name + 7]), None);
    assert_eq!(Header::decode_start(&backed[..19]), None);
    assert_eq!(Header::decode_start(&bytes()), None, "there is no name");
    assert_eq!(Header::decode_start(&poked(&[(8, &long(u64::MAX)), (16, &word(1))])), None);
}

#[test]
fn a_virtual_size_that_is_not_a_multiple_of_512_is_rounded_down() {
    let bytes = poked(&[(24, &long(1000))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.virtual_size(), 512);
    assert_eq!(header.encode(), bytes, "the stored remainder is kept until a rewrite");
    assert_eq!(header.rewritten().unwrap().encode()[24..32], long(512));
}

#[test]
fn a_short_version_3_header_has_no_compression_type() {
    // Byte 104 is then the first byte of an extension's magic.
    let bytes = poked(&[(100, &word(104)), (104, &word(0x0102_0304)), (108, &word(0))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.compression_type(), CompressionType::Deflate);
    assert_eq!(header.extensions().next().unwrap().magic(), 0x0102_0304);
    assert_eq!(header.encode(), bytes);
    assert_eq!(header.rewritten().unwrap().header_length(), 112);
}

#[test]
fn an_odd_header_length_is_accepted() {
    let bytes = poked(&[(100, &word(105)), (105, &[0; 100])]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!((header.header_length(), header.unknown_fields()), (105, &[][..]));
    assert_eq!(header.encode(), bytes);
}

#[test]
fn unknown_header_fields_survive_a_rewrite_and_padding_becomes_zero() {
    let bytes = poked(&[(100, &word(120)), (105, &[9; 7]), (112, b"UNKNOWN!"), (120, &[0; 400])]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.unknown_fields(), b"UNKNOWN!");
    assert_eq!(header.encode(), bytes);
    let rewritten = header.rewritten().unwrap().encode();
    assert_eq!(rewritten[100..104], word(120));
    assert_eq!(rewritten[104..112], [0; 8]);
    assert_eq!(&rewritten[112..120], b"UNKNOWN!");
}

#[test]
fn unknown_compatible_and_autoclear_bits_are_decoded_and_kept() {
    let bytes = poked(&[(80, &long(1 << 40)), (88, &long(1 << 9))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.features().compatible.unknown().bits(), 1 << 40);
    assert_eq!(header.features().autoclear.unknown().bits(), 1 << 9);
    let rewritten = header.rewritten().unwrap();
    assert_eq!(rewritten.features(), header.features());
}

#[test]
fn trap_16_version_2_has_no_feature_words() {
    // What would be feature bits are extensions there.
    let bytes = poked(&[(4, &word(2)), (72, &word(0xffff_ffff)), (76, &word(0))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.features(), Features::default());
    assert_eq!(header.geometry().refcount_order(), RefcountOrder::DEFAULT);
    assert_eq!((header.version(), header.header_length()), (Version::V2, 72));
    assert_eq!(header.extensions().next().unwrap().magic(), 0xffff_ffff);
    assert_eq!(header.encode(), bytes);
}

#[test]
fn an_l1_table_larger_than_the_size_needs_is_kept() {
    let header = Header::decode(&poked(&[(36, &word(4))])).unwrap();
    assert_eq!(header.l1_entry_count(), 4);
    assert_eq!(header.rewritten().unwrap().l1_entry_count(), 4);
}

#[test]
fn a_backing_name_of_length_0_is_no_backing_file() {
    for offset in [8, 112, 65536] {
        let bytes = poked(&[(8, &long(offset)), (112, &[0; 400])]);
        let header = Header::decode(&bytes).unwrap();
        assert_eq!(header.backing_name(), None);
        assert_eq!(header.encode(), bytes);
    }
}

/// The reference implementation keeps names as C strings.
#[test]
fn names_end_at_the_first_nul() {
    let mut bytes = builder().backing(b"ba-e.raw", Some(b"r-w")).build().unwrap().encode();
    for byte in &mut bytes[112..] {
        if *byte == b'-' {
            *byte = 0;
        }
    }
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(
        (header.backing_name(), header.backing_format()),
        (Some(&b"ba"[..]), Some(&b"r"[..]))
    );
    assert_eq!(header.encode(), bytes);
}

#[test]
fn a_backing_size_without_an_offset_means_nothing() {
    let bytes = poked(&[(16, &word(5000))]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.backing_name(), None);
    assert_eq!(header.encode(), bytes);
}

#[test]
fn a_backing_name_may_lie_anywhere_behind_the_extensions() {
    let bytes = poked(&[(8, &long(60000)), (16, &word(4)), (60000, b"base"), (65000, b"stray")]);
    let header = Header::decode(&bytes).unwrap();
    assert_eq!(header.backing_name(), Some(&b"base"[..]));
    assert_eq!(header.encode(), bytes);
    let rewritten = header.rewritten().unwrap();
    assert_eq!(rewritten.backing_name(), Some(&b"base"[..]));
    assert_eq!(rewritten.encode()[504..65536], {
        let mut rest = [0; 65536 - 504];
        rest[8..12].copy_from_slice(b"base");
        rest
    });
}

#[test]
fn an_image_may_end_inside_cluster_0() {
    let bytes = bytes();
    let short = Header::decode(&bytes[..600]).unwrap();
    assert_eq!(short, Header::decode(&bytes).unwrap());
}

#[test]
fn qf_3_an_empty_refcount_table_is_tolerated_only_for_a_check() {
    let bytes = poked(&[(56, &word(0))]);
    assert!(Header::decode(&bytes).is_err());
    assert_eq!(Header::decode_for_check(&bytes).unwrap().refcount_table_clusters(), 0);
}

#[test]
fn known_features_that_not_everybody_serves_are_decoded() {
    let bytes = poked(&[(72, &long(0x17)), (32, &word(1))]);
    let header = Header::decode(&bytes).unwrap();
    assert!(header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE));
    assert!(header.requires(IncompatibleFeatures::CORRUPT));
    assert_eq!(header.geometry().l2_layout(), L2Layout::Extended);
    assert_eq!(header.crypt_method(), CryptMethod::Aes);
}

#[test]
fn field_updates_write_what_a_changed_header_would() {
    let header = builder().build().unwrap();
    let moved = table(0x50000, 2);
    let features = Features {
        incompatible: IncompatibleFeatures::DIRTY,
        compatible: CompatibleFeatures::NONE,
        autoclear: AutoclearFeatures::NONE,
    };
    let pairs = [
        (FieldUpdate::l1_table(moved), header.clone().with_l1_table(moved)),
        (FieldUpdate::refcount_table(moved), header.clone().with_refcount_table(moved)),
        (FieldUpdate::snapshot_table(moved), header.clone().with_snapshot_table(moved)),
        (FieldUpdate::virtual_size(4096), header.clone().with_virtual_size(4096)),
        (
            FieldUpdate::incompatible_features(features.incompatible),
            header.clone().with_features(features),
        ),
    ];
    let mut places = Vec::new();
    for (update, changed) in pairs {
        let mut bytes = header.encode();
        let at = usize::try_from(update.offset()).unwrap();
        bytes[at..at + update.bytes().len()].copy_from_slice(update.bytes());
        assert_eq!(bytes, changed.unwrap().encode());
        places.push((update.bytes().len(), at));
    }
    assert_eq!(places, [(12, 36), (12, 48), (12, 60), (8, 24), (8, 72)]);
}

#[test]
fn areas_are_compared_with_each_other_and_with_the_file() {
    let header = builder().build().unwrap();
    assert_eq!(header.validate_areas_disjoint(), Ok(()));
    assert_eq!(header.validate_against_file_len(0x30008), Ok(()));
    let overlapping = header.clone().with_l1_table(table(0x10000, 1)).unwrap();
    let itself = header.clone().with_l1_table(table(0, 1)).unwrap();
    let texts = [
        overlapping.validate_areas_disjoint().unwrap_err().to_string(),
        itself.validate_areas_disjoint().unwrap_err().to_string(),
        header.validate_against_file_len(0x30000).unwrap_err().to_string(),
        header.validate_against_file_len(0x10200).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    refcount table: offset is 0x10000, allowed is clusters that no other table occupies
    L1 table: offset is 0x0, allowed is clusters that no other table occupies
    L1 table: offset is 0x30000, allowed is inside the image file
    L1 table: offset is 0x30000, allowed is inside the image file
    ");
}

proptest! {
    #[test]
    fn qf_1_whatever_decodes_encodes_back(
        file in 112_usize..2048,
        version in 2_u8..=3,
        pokes in proptest::collection::vec((0_usize..700, any::<u8>()), 0..6),
        with_backing in any::<bool>(),
    ) {
        let builder = HeaderBuilder::new(geometry(9), 4 << 20)
            .l1_table(table(0x600, 256))
            .refcount_table(table(0x200, 1));
        let builder = if with_backing { builder.backing(b"b.raw", Some(b"raw")) } else { builder };
        let mut bytes = builder.build().unwrap().encode();
        bytes[7] = version;
        bytes.resize(2048, 0);
        for (at, byte) in pokes {
            bytes[at] = byte;
        }
        bytes.truncate(file);
        if let Ok(header) = Header::decode_for_check(&bytes) {
            let mut cluster = bytes;
            cluster.resize(usize::try_from(header.geometry().cluster_bytes()).unwrap(), 0);
            prop_assert_eq!(&header.encode(), &cluster);
            if let Ok(rewritten) = header.rewritten() {
                let again = Header::decode_for_check(&rewritten.encode()).unwrap();
                prop_assert_eq!(&again, &rewritten);
                prop_assert_eq!(again.rewritten().unwrap(), rewritten);
            }
        }
    }

    #[test]
    fn qf_2_any_bytes_decode_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Header::decode(&bytes);
        if let Some(start) = bytes.get_mut(..8) {
            start.copy_from_slice(&[0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
        }
        if let Some(bits) = bytes.get_mut(20..24) {
            bits.copy_from_slice(&[0, 0, 0, 9]);
        }
        let _ = Header::decode(&bytes);
    }
}
