//! Tests of the L1 entry.

use super::*;

#[test]
fn reserved_bits_are_masked_and_reported() {
    let entry = L1Entry::from_bits(0xff00_0000_0005_01ff);
    assert_eq!(entry.table_offset(), Some(HostOffset::new(0x50000)));
    assert_eq!(entry.reserved_bits(), 0x7f00_0000_0000_01ff);
    assert!(entry.is_copied());
    assert_eq!(entry.bits(), 0xff00_0000_0005_01ff);
}

#[test]
fn copied_without_an_offset_is_still_unallocated() {
    assert_eq!(L1Entry::from_bits(1 << 63).table_offset(), None);
    assert_eq!(L1Entry::UNALLOCATED.table_offset(), None);
}

#[test]
fn an_owned_table_has_the_copied_flag() {
    let entry = L1Entry::owned(HostOffset::new(0x40000));
    assert_eq!(entry.bits(), 0x8000_0000_0004_0000);
    assert_eq!(entry.with_copied(false).bits(), 0x40000);
    assert_eq!(entry.with_copied(false).with_copied(true), entry);
}
