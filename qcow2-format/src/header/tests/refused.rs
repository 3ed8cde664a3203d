//! Headers that are refused, with the words that say why.

use super::*;

fn refusal(pokes: &[(usize, &[u8])]) -> String {
    Header::decode(&poked(pokes)).unwrap_err().to_string()
}

#[test]
fn qf_3_what_the_fixed_fields_may_not_hold() {
    let texts = [
        refusal(&[(0, b"VMDK")]),
        refusal(&[(4, &word(1))]),
        refusal(&[(4, &word(4))]),
        refusal(&[(20, &word(8))]),
        refusal(&[(20, &word(22))]),
        refusal(&[(100, &word(103))]),
        refusal(&[(100, &word(65537))]),
        refusal(&[(32, &word(3))]),
        refusal(&[(96, &word(7))]),
        refusal(&[(72, &long(16)), (20, &word(13))]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    not a qcow2 image: magic is 0x564d444b, not 0x514649fb
    header: version at offset 0x4 is 1, allowed is 2 or 3
    header: version at offset 0x4 is 4, allowed is 2 or 3
    header: cluster_bits at offset 0x14 is 8, allowed is 9..=21
    header: cluster_bits at offset 0x14 is 22, allowed is 9..=21
    header: header_length at offset 0x64 is 103, allowed is 104 to the cluster size
    header: header_length at offset 0x64 is 65537, allowed is 104 to the cluster size
    header: crypt_method at offset 0x20 is 3, allowed is 0, 1 or 2
    header: refcount_order at offset 0x60 is 7, allowed is 0..=6
    header: cluster_bits at offset 0x14 is 13, allowed is 14..=21 with extended L2 entries
    ");
}

#[test]
fn a_file_that_ends_inside_the_header_is_refused() {
    let texts = [0, 3, 23, 71, 103, 111]
        .map(|len| Header::decode(&bytes()[..len]).unwrap_err().to_string());
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: file length at offset 0x0 is cut off after 0 bytes, allowed is 24 bytes or more
    header: file length at offset 0x0 is cut off after 3 bytes, allowed is 24 bytes or more
    header: file length at offset 0x0 is cut off after 23 bytes, allowed is 24 bytes or more
    header: file length at offset 0x0 is cut off after 71 bytes, allowed is 72 bytes or more
    header: file length at offset 0x0 is cut off after 103 bytes, allowed is 104 bytes or more in version 3
    header: file length at offset 0x0 is cut off after 111 bytes, allowed is all of the header length
    ");
}

#[test]
fn compression_type_and_feature_bit_must_agree_both_ways() {
    let texts = [
        refusal(&[(72, &long(8))]),
        refusal(&[(104, &[1])]),
        refusal(&[(104, &[2])]),
        refusal(&[(72, &long(8)), (104, &[2])]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: compression_type at offset 0x68 is 0, allowed is not 0 with incompatible feature bit 3
    header: compression_type at offset 0x68 is 1, allowed is 0 without incompatible feature bit 3
    header: compression_type at offset 0x68 is 2, allowed is 0 without incompatible feature bit 3
    header: compression_type at offset 0x68 is 2, allowed is 0 (deflate) or 1 (zstd)
    ");
    assert!(Header::decode(&poked(&[(72, &long(8)), (104, &[1])])).is_ok());
}

#[test]
fn unknown_incompatible_features_are_refused_by_name() {
    // The last row of the feature name table starts at 120 + 7 * 48.
    let texts = [
        refusal(&[(72, &long(1 << 5))]),
        refusal(&[(72, &long(1 << 63 | 1 << 5))]),
        refusal(&[(72, &long(1 << 5)), (456, b"\x00\x05my feature\0")]),
        refusal(&[(72, &long(1 << 5)), (456, b"\x01\x05other word\0")]),
        refusal(&[(72, &long(1 << 5)), (116, &word(70000))]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: incompatible_features bit 5 is not known
    header: incompatible_features bit 5 is not known, all unknown bits are 0x8000000000000020
    header: incompatible_features bit 5 (my feature) is not known
    header: incompatible_features bit 5 is not known
    header: incompatible_features bit 5 is not known
    ");
}

#[test]
fn tables_that_are_too_large_or_unaligned_are_refused() {
    let texts = [
        refusal(&[(56, &word(0))]),
        refusal(&[(56, &word(129))]),
        refusal(&[(48, &long(0x10200))]),
        refusal(&[(48, &long(0x7fff_ffff_ffff_0000))]),
        refusal(&[(60, &word(65537))]),
        refusal(&[(60, &word(1)), (64, &long(0x7fff_ffff_ffff_ffff))]),
        refusal(&[(36, &word(4_194_305))]),
        refusal(&[(40, &long(0x30008))]),
        refusal(&[(36, &word(0))]),
        refusal(&[(24, &long(u64::MAX))]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: refcount_table_clusters at offset 0x38 is 0, allowed is 1 cluster to 8 MiB
    header: refcount_table_clusters at offset 0x38 is 129, allowed is 1 cluster to 8 MiB
    header: refcount_table_offset at offset 0x30 is 0x10200, allowed is a multiple of the cluster size whose table ends below 2^63
    header: refcount_table_offset at offset 0x30 is 0x7fffffffffff0000, allowed is a multiple of the cluster size whose table ends below 2^63
    header: nb_snapshots at offset 0x3c is 65537, allowed is 0..=65536
    header: snapshots_offset at offset 0x40 is 0x7fffffffffffffff, allowed is a multiple of the cluster size whose table ends below 2^63
    header: l1_size at offset 0x24 is 4194305, allowed is 0..=4194304
    header: l1_table_offset at offset 0x28 is 0x30008, allowed is a multiple of the cluster size whose table ends below 2^63
    header: l1_size at offset 0x24 is 0, allowed is as many entries as the virtual size needs
    header: l1_size at offset 0x24 is 1, allowed is as many entries as the virtual size needs
    ");
}

#[test]
fn table_alignment_is_checked_even_for_empty_tables() {
    insta::assert_snapshot!(refusal(&[(64, &long(512))]), @"header: snapshots_offset at offset 0x40 is 0x200, allowed is a multiple of the cluster size whose table ends below 2^63");
    insta::assert_snapshot!(refusal(&[(24, &long(0)), (36, &word(0)), (40, &long(8))]), @"header: l1_table_offset at offset 0x28 is 0x8, allowed is a multiple of the cluster size whose table ends below 2^63");
}

#[test]
fn a_backing_name_must_lie_behind_the_header_and_inside_cluster_0() {
    let texts = [
        refusal(&[(8, &long(65537))]),
        refusal(&[(8, &long(u64::MAX))]),
        refusal(&[(8, &long(8)), (16, &word(4))]),
        refusal(&[(8, &long(65532)), (16, &word(5))]),
        refusal(&[(8, &long(600)), (16, &word(1024))]),
        refusal(&[(8, &long(600)), (16, &word(u32::MAX))]),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: backing_file_offset at offset 0x8 is 0x10001, allowed is 0, or behind the header and inside cluster 0
    header: backing_file_offset at offset 0x8 is 0xffffffffffffffff, allowed is 0, or behind the header and inside cluster 0
    header: backing_file_offset at offset 0x8 is 0x8, allowed is 0, or behind the header and inside cluster 0
    header: backing_file_size at offset 0x10 is 5, allowed is 0..=1023 and inside cluster 0
    header: backing_file_size at offset 0x10 is 1024, allowed is 0..=1023 and inside cluster 0
    header: backing_file_size at offset 0x10 is 4294967295, allowed is 0..=1023 and inside cluster 0
    ");
}

#[test]
fn the_first_error_is_the_one_the_reference_implementation_reports() {
    // Everything is wrong at once; each repair uncovers the next error.
    let repairs: [(usize, &[u8]); 9] = [
        (100, &word(112)),
        (8, &long(0)),
        (104, &[0]),
        (72, &long(0)),
        (96, &word(4)),
        (32, &word(0)),
        (56, &word(1)),
        (64, &long(0)),
        (36, &word(1)),
    ];
    let mut bytes = poked(&[
        (100, &word(7)),
        (8, &long(65537)),
        (104, &[2]),
        (72, &long(1 << 7)),
        (96, &word(7)),
        (32, &word(9)),
        (56, &word(0)),
        (64, &long(1)),
        (36, &word(0)),
    ]);
    let mut fields = Vec::new();
    for (at, repaired) in repairs {
        let field = match Header::decode(&bytes).unwrap_err() {
            Error::Invalid { field, .. } => field,
            Error::UnknownFeature { .. } => "unknown feature",
            other => panic!("{other}"),
        };
        fields.push(field);
        bytes[at..at + repaired.len()].copy_from_slice(repaired);
    }
    insta::assert_snapshot!(fields.join("\n"), @r"
    header_length
    backing_file_offset
    compression_type
    unknown feature
    refcount_order
    crypt_method
    refcount_table_clusters
    snapshots_offset
    l1_size
    ");
    assert!(Header::decode(&bytes).is_ok());
}

#[test]
fn qf_3_changes_that_make_no_valid_header_are_refused() {
    let header = || builder().build().unwrap();
    let features = |bits| Features {
        incompatible: IncompatibleFeatures::from_bits(bits),
        ..Features::default()
    };
    let version_2 = builder().version(Version::V2).build().unwrap();
    let texts = [
        header().with_l1_table(table(0x30000, 0)).unwrap_err(),
        header().with_l1_table(table(0x30001, 1)).unwrap_err(),
        header().with_refcount_table(table(0x10000, 0)).unwrap_err(),
        header().with_snapshot_table(table(0x10000, 65537)).unwrap_err(),
        header().with_virtual_size(1 << 40).unwrap_err(),
        header().with_features(features(8)).unwrap_err(),
        version_2.with_features(features(1)).unwrap_err(),
        header().with_backing(Some(&[b'x'; 1024]), None).unwrap_err(),
        header().with_backing(Some(b"x"), Some(&[b'x'; 16])).unwrap_err(),
        builder().version(Version::V2).lazy_refcounts(true).build().unwrap_err(),
        HeaderBuilder::new(geometry(16), 1000).build().unwrap_err(),
        HeaderBuilder::new(geometry(16), 0).build().unwrap_err(),
    ]
    .map(|error| error.to_string());
    insta::assert_snapshot!(texts.join("\n"), @r"
    header: l1_size at offset 0x24 is 0, allowed is as many entries as the virtual size needs
    header: l1_table_offset at offset 0x28 is 0x30001, allowed is a multiple of the cluster size whose table ends below 2^63
    header: refcount_table_clusters at offset 0x38 is 0, allowed is 1 cluster to 8 MiB
    header: nb_snapshots at offset 0x3c is 65537, allowed is 0..=65536
    header: l1_size at offset 0x24 is 1, allowed is as many entries as the virtual size needs
    header: incompatible_features at offset 0x48 is 0x8, allowed is bits 3 and 4 as they are
    header: version at offset 0x4 is 2, allowed is 3 with any feature bit
    header: backing_file_size at offset 0x10 is 1024, allowed is 0..=1023
    header extension 0xe2792aca: length is 16, allowed is 0..=15
    header: version at offset 0x4 is 2, allowed is 3 with any feature bit or a refcount width other than 16
    header: size at offset 0x18 is 1000, allowed is a multiple of 512
    header: refcount_table_clusters at offset 0x38 is 0, allowed is 1 cluster to 8 MiB
    ");
}
