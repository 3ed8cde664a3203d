//! Snapshot table, bitmap directory and bitmap table: what decodes encodes to itself.

use qimg::format::{
    BitmapTableEntry, ClusterBits, Geometry, L2Layout, RefcountOrder, SnapshotTable,
    SnapshotTableDecode, decode_bitmap_directory, encode_table, table_words,
};

use crate::input::Input;

/// Takes two bytes for the shape of the image and the number of entries, the rest for a table.
///
/// # Panics
/// A promise of the decoders and encoders of tables is broken.
pub fn tables(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (shape, count) = (input.u8(), u32::from(input.u8()));
    let bits = ClusterBits::new(9 + u32::from(shape % 13)).expect("9..=21");
    let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard);
    let geometry = geometry.expect("standard entries fit all");
    snapshots(input.0, count, geometry);
    bitmap_directory(input.0, count, geometry);
    bitmap_table(input.0, geometry);
}

fn snapshots(bytes: &[u8], count: u32, geometry: Geometry) {
    match SnapshotTable::decode(bytes, count) {
        Ok(SnapshotTableDecode::Complete(table)) => {
            assert_eq!(table.snapshots().len(), count as usize);
            assert_eq!(table.bytes(), table.encode().len() as u64);
            let encoded = table.encode();
            let again = SnapshotTable::decode(&encoded, count);
            assert_eq!(again, Ok(SnapshotTableDecode::Complete(table.clone())));
            for snapshot in table.snapshots() {
                let _ = (snapshot.id(), snapshot.name(), snapshot.vm_state_bytes());
                let _ = (snapshot.virtual_size(), snapshot.icount(), snapshot.extra_data());
                let _ = snapshot.validate_l1_table(geometry);
                let whole = snapshot.clone().with_required_extra_data(1 << 20);
                assert!(!whole.lacks_extra_data());
                assert_eq!((whole.id(), whole.name()), (snapshot.id(), snapshot.name()));
            }
        }
        Ok(SnapshotTableDecode::NeedsBytes(wanted)) => {
            assert!(wanted > bytes.len() as u64, "{wanted} bytes are there");
        }
        Err(error) => one_line(&error.to_string()),
    }
}

fn bitmap_directory(bytes: &[u8], count: u32, geometry: Geometry) {
    match decode_bitmap_directory(geometry, bytes, count) {
        Ok(entries) => {
            let mut encoded = Vec::new();
            for entry in &entries {
                entry.encode_into(&mut encoded);
            }
            let again = decode_bitmap_directory(geometry, &encoded, count);
            assert_eq!(again.as_ref(), Ok(&entries));
        }
        Err(error) => one_line(&error.to_string()),
    }
}

fn bitmap_table(bytes: &[u8], geometry: Geometry) {
    for word in table_words(bytes) {
        let entry = BitmapTableEntry::from_bits(word.get());
        assert_eq!(entry.bits(), word.get());
        if let Err(error) = entry.decode(geometry, 8) {
            one_line(&error.to_string());
        }
    }
    let whole = bytes.len() / 8 * 8;
    let words = table_words(bytes).iter().map(|word| word.get());
    assert!(encode_table(words) == bytes[..whole], "words come back");
}

fn one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?} is one line");
}
