//! The text of every kind of error.

use std::fmt::Write;

use super::*;

#[test]
fn every_error_is_one_lower_case_clause() {
    let errors = [
        Error::NotQcow2 { found: 0x4b44_4d56 },
        Error::number(Structure::Header, "version", Some(4), 4, "2 or 3"),
        Error::hex(Structure::L1Table, "offset", None, 0x200, "a multiple of the cluster size"),
        Error::cut_off(Structure::BitmapDirectory, "entry", 24, 7, "a head of 24 bytes"),
        Error::UnknownFeature { bit: 5, name: FeatureName::EMPTY, all: 1 << 5 },
        Error::UnknownFeature { bit: 5, name: FeatureName::new("my feature"), all: 1 << 5 },
        Error::UnknownFeature { bit: 5, name: FeatureName::new("a\x1bb"), all: 0x60 },
        Error::HeaderSpace { needed: 540, available: 512 },
    ];
    let mut text = String::new();
    for error in errors {
        let line = error.to_string();
        assert!(line.is_ascii() && !line.ends_with('.'));
        assert!(line.starts_with(|first: char| first.is_lowercase()) || line.starts_with('L'));
        writeln!(text, "{line}").unwrap();
    }
    insta::assert_snapshot!(text, @r"
    not a qcow2 image: magic is 0x4b444d56, not 0x514649fb
    header: version at offset 0x4 is 4, allowed is 2 or 3
    L1 table: offset is 0x200, allowed is a multiple of the cluster size
    bitmap directory: entry at offset 0x18 is cut off after 7 bytes, allowed is a head of 24 bytes
    header: incompatible_features bit 5 is not known
    header: incompatible_features bit 5 (my feature) is not known
    header: incompatible_features bit 5 (a\x1bb) is not known, all unknown bits are 0x60
    header: 540 bytes do not fit into the 512 of cluster 0
    ");
}

#[test]
fn every_structure_has_a_name() {
    let structures = [
        Structure::Header,
        Structure::Extension(0xe279_2aca),
        Structure::L1Table,
        Structure::L2Table,
        Structure::CompressedDescriptor,
        Structure::RefcountTable,
        Structure::RefcountBlock,
        Structure::SnapshotTable,
        Structure::BitmapDirectory,
        Structure::BitmapTable,
    ];
    let text: Vec<String> = structures.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    header
    header extension 0xe2792aca
    L1 table
    L2 table
    compressed cluster descriptor
    refcount table
    refcount block
    snapshot table
    bitmap directory
    bitmap table
    ");
}
