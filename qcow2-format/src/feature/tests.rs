//! Tests of feature bits and their names.

use super::*;

#[test]
fn known_bits_are_the_named_ones() {
    assert_eq!(IncompatibleFeatures::KNOWN.bits(), 0x1f);
    assert_eq!(CompatibleFeatures::KNOWN.bits(), 1);
    assert_eq!(AutoclearFeatures::KNOWN.bits(), 3);
    let word = IncompatibleFeatures::from_bits(0x60).with(IncompatibleFeatures::DIRTY);
    assert_eq!(word.unknown().bits(), 0x60);
    assert!(word.contains(IncompatibleFeatures::DIRTY));
    assert!(!word.contains(IncompatibleFeatures::DIRTY.with(IncompatibleFeatures::CORRUPT)));
    assert!(word.without(word).is_empty());
}

#[test]
fn the_standard_table_names_every_known_bit() {
    let table = FeatureNameTable::standard();
    assert_eq!(table.as_bytes().len(), 384);
    let names: Vec<String> = table
        .rows()
        .map(|row| format!("{:?} {} {}", row.feature_kind(), row.bit, row.name))
        .collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    Incompatible 0 dirty bit
    Incompatible 1 corrupt bit
    Incompatible 2 external data file
    Incompatible 3 compression type
    Incompatible 4 extended L2 entries
    Compatible 0 lazy refcounts
    Autoclear 0 bitmaps
    Autoclear 1 raw external data
    ");
    let name = table.name(FeatureKind::Compatible, 0).unwrap();
    assert_eq!(name.as_bytes(), b"lazy refcounts");
    assert_eq!(table.name(FeatureKind::Unknown(3), 0), None);
}

#[test]
fn a_table_that_ends_inside_a_row_gives_the_whole_rows() {
    let mut bytes = FeatureNameTable::standard().as_bytes().to_vec();
    bytes.truncate(100);
    let table = FeatureNameTable::from_bytes(bytes.clone());
    assert_eq!(table.rows().count(), 2);
    assert_eq!(table.as_bytes(), bytes);
}

#[test]
fn a_name_may_fill_all_46_bytes_and_never_reaches_a_terminal_raw() {
    let long = "0123456789012345678901234567890123456789012345";
    assert_eq!(FeatureName::new(long).as_bytes(), long.as_bytes());
    assert_eq!(FeatureName::new(&format!("{long}67")).as_bytes(), long.as_bytes());
    assert_eq!(format!("{:?}", FeatureName::new("\x1b[31m")), r#""\x1b[31m""#);
}
