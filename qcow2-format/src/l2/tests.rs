//! Tests of the L2 entry.

use super::*;

#[test]
fn reserved_bits_do_not_leak_into_the_offset() {
    let entry = L2Entry::from_bits(0x8000_0000_0005_0002);
    assert_eq!(entry.host_offset(), HostOffset::new(0x50000));
    assert_eq!(entry.reserved_bits(), 2);
    assert!(entry.is_copied() && !entry.has_zero_flag() && !entry.is_compressed());
}

#[test]
fn a_compressed_descriptor_has_no_reserved_bits() {
    assert_eq!(L2Entry::from_bits(0x7fff_ffff_ffff_ffff).reserved_bits(), 0);
    assert_eq!(L2Entry::from_bits(0x3f00_0000_0000_01fe).reserved_bits(), 0x3f00_0000_0000_01fe);
}

#[test]
fn flags_change_alone() {
    let entry = L2Entry::owned(HostOffset::new(0x60000));
    assert_eq!(entry.bits(), 0x8000_0000_0006_0000);
    assert_eq!(entry.with_zero_flag(true).bits(), 0x8000_0000_0006_0001);
    assert_eq!(entry.with_zero_flag(true).with_copied(false).bits(), 0x60001);
    assert_eq!(entry.with_zero_flag(true).with_zero_flag(false), entry);
    assert_eq!(L2Entry::ZERO_PLAIN.bits(), 1);
}

#[test]
fn the_bitmap_has_allocation_bits_below_and_zero_bits_above() {
    let bitmap = L2Bitmap::from_bits(0x8000_0000_0000_0001);
    assert_eq!((bitmap.allocated(), bitmap.zero()), (1, 1 << 31));
    assert_eq!(L2Bitmap::from_parts(1, 1 << 31), bitmap);
    assert_eq!(L2Bitmap::from_parts(0, u32::MAX), L2Bitmap::ALL_ZERO);
    assert_eq!(L2Bitmap::from_parts(u32::MAX, 0), L2Bitmap::ALL_ALLOCATED);
}
