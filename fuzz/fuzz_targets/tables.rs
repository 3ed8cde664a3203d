//! Snapshot table, bitmap directory and compressed descriptors from arbitrary bytes: no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qcow2_format::{ClusterBits, CompressedDescriptor, Geometry, L2Entry, L2Layout, RefcountBlock,
    RefcountOrder, SnapshotTable, decode_bitmap_directory};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[choice, count], rest)) = bytes.split_first_chunk::<2>() else { return };
    let count = u32::from(count);
    let _ = SnapshotTable::decode(rest, count);
    let order = RefcountOrder::new(u32::from(choice % 7)).expect("0..=6");
    let mut block = RefcountBlock::from_bytes(order, rest.to_vec());
    for index in 0..block.count().min(512) {
        let value = block.get(index);
        block.set(index, value).expect("what was there fits");
    }
    assert_eq!(block.as_bytes(), rest, "get then set changes nothing");
    let bits = ClusterBits::new(9 + u32::from(choice % 13)).expect("9..=21");
    let geometry = Geometry::new(bits, order, L2Layout::Standard).expect("standard fits all");
    let _ = decode_bitmap_directory(geometry, rest, count);
    for word in rest.as_chunks::<8>().0 {
        let entry = L2Entry::from_bits(u64::from_be_bytes(*word));
        if let Some(descriptor) = CompressedDescriptor::decode(geometry, entry) {
            assert_eq!(descriptor.encode(geometry), entry.with_copied(false));
        }
    }
});
