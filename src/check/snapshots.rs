//! The snapshot table, read for a check.

use qcow2_format::{SnapshotTable, SnapshotTableDecode, Version, limit};

use super::image::Image;
use super::tally::Tally;
use super::{CheckError, FindingKind};

/// Bytes read at first; most tables are shorter.
const FIRST_READ_BYTES: u64 = 64 << 10;

/// Reads the snapshot table and looks at its entries.
pub(super) fn load(image: &Image<'_>, tally: &mut Tally) -> Result<SnapshotTable, CheckError> {
    let table = read_table(image)?;
    if image.header.version() == Version::V3 {
        for (index, snapshot) in table.snapshots().iter().enumerate() {
            if snapshot.lacks_extra_data() {
                tally.error(FindingKind::SnapshotIncomplete { index: index as u64 });
            }
        }
    }
    Ok(table)
}

fn read_table(image: &Image<'_>) -> Result<SnapshotTable, CheckError> {
    let pointer = image.header.snapshot_table();
    let mut len = if pointer.count == 0 { 0 } else { FIRST_READ_BYTES };
    loop {
        let bytes = image.read(pointer.offset.get(), len)?;
        match SnapshotTable::decode(&bytes, pointer.count)? {
            SnapshotTableDecode::Complete(table) => return Ok(table),
            // Twice as much, so that the number of reads stays small.
            SnapshotTableDecode::NeedsBytes(needed) => {
                len = needed.max(len * 2).min(limit::SNAPSHOT_TABLE_BYTES_MAX).max(needed);
            }
        }
    }
}
