//! Tests of the refcount table entry.

use super::*;

#[test]
fn an_absent_block_means_zero_counts_not_corruption() {
    assert_eq!(RefcountTableEntry::ABSENT.block_offset(), None);
    assert_eq!(RefcountTableEntry::from_bits(0x1ff).block_offset(), None);
}

#[test]
fn reserved_bits_are_masked_and_reported() {
    let entry = RefcountTableEntry::from_bits(0xff00_0000_0002_0001);
    assert_eq!(entry.block_offset(), Some(HostOffset::new(0xff00_0000_0002_0000)));
    assert_eq!(entry.reserved_bits(), 1);
    assert_eq!(RefcountTableEntry::new(HostOffset::new(0x20000)).bits(), 0x20000);
}
