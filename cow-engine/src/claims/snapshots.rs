//! Claims of internal snapshots: their table, their L1 tables, and the L2 tables of those.

use block_io::StorageExt;
use qcow2_format::{Header, L1Entry, SnapshotTable, SnapshotTableDecode, TablePointer, limit};

use super::Claims;
use crate::area_runs::Refusal;
use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::claim_error;

/// Bytes read at first; most tables are shorter.
const FIRST_READ_BYTES: u64 = 64 << 10;

impl Claims<'_> {
    /// Claims everything that belongs to snapshots, and notes which L2 tables they share.
    pub(super) fn snapshots(&mut self, header: &Header) -> Result<()> {
        if header.snapshot_count() == 0 {
            return Ok(());
        }
        let table = self.snapshot_table(header.snapshot_table())?;
        self.claim(Area::SnapshotTable, header.snapshot_table_offset(), table.bytes())?;
        for (index, snapshot) in table.snapshots().iter().enumerate() {
            snapshot.validate_l1_table(self.geometry)?;
            let l1 = snapshot.l1_table();
            if l1.count > 0 {
                self.check_place("snapshot table", index as u64, l1.offset)?;
                self.claim(Area::SnapshotL1Table, l1.offset, u64::from(l1.count) * 8)?;
            }
        }
        for snapshot in table.snapshots() {
            self.snapshot_l2_tables(snapshot.l1_table())?;
        }
        Ok(())
    }

    fn snapshot_table(&self, pointer: TablePointer) -> Result<SnapshotTable> {
        let mut len = FIRST_READ_BYTES;
        loop {
            // A table that ends past the end of the file was refused with the header.
            let mut bytes = vec![0; len as usize];
            self.storage
                .read_zero_filled(pointer.offset.get(), &mut bytes)
                .map_err(Error::storage(Purpose::SnapshotTable))?;
            match SnapshotTable::decode(&bytes, pointer.count)? {
                SnapshotTableDecode::Complete(table) => return Ok(table),
                // Twice as much, so that the number of reads stays small.
                SnapshotTableDecode::NeedsBytes(needed) => {
                    len = needed.max(len * 2).min(limit::SNAPSHOT_TABLE_BYTES_MAX).max(needed);
                }
            }
        }
    }

    /// The L2 tables of one snapshot, whose COPIED flags mean nothing.
    fn snapshot_l2_tables(&mut self, l1: TablePointer) -> Result<()> {
        let entries = u64::from(l1.count);
        self.table_words(Purpose::SnapshotL1Table, l1.offset, entries, |claims, index, word| {
            let Some(table) = L1Entry::from_bits(word).table_offset() else { return Ok(()) };
            claims.check_place("L1 table of a snapshot", index, table)?;
            let cluster = claims.geometry.host_cluster(table).get();
            let shared = claims.runs.share_l2_table(cluster);
            shared.map_err(|refusal: Refusal| claim_error(Area::SnapshotL2Table, table, refusal))
        })
    }
}
