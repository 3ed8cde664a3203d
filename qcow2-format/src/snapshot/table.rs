//! The snapshot table: entries of variable length, whose total only they know.

use alloc::vec::Vec;

use zerocopy::FromBytes;

use super::{RawSnapshotHead, Snapshot, TABLE};
use crate::error::Error;
use crate::limit;

/// Entries start at multiples of this, counted from the start of the table.
const ENTRY_ALIGNMENT: usize = 8;

/// The snapshots of an image, in table order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    snapshots: Vec<Snapshot>,
}

/// What came of decoding the start of a snapshot table, whose length only its entries know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotTableDecode {
    /// All entries were there.
    Complete(SnapshotTable),
    /// The bytes end too early: come back with at least this many, counted from the start.
    NeedsBytes(u64),
}

impl SnapshotTable {
    /// A table of these snapshots.
    ///
    /// # Errors
    /// More than 65536 snapshots, or more than 64 MiB.
    pub fn new(snapshots: Vec<Snapshot>) -> Result<Self, Error> {
        if snapshots.len() > limit::SNAPSHOT_COUNT_MAX as usize {
            let found = snapshots.len() as u64;
            return Err(Error::number(TABLE, "nb_snapshots", None, found, "0..=65536"));
        }
        let table = Self { snapshots };
        validate_table_bytes(table.bytes())?;
        Ok(table)
    }

    /// Decodes `count` entries from the start of a table.
    ///
    /// The length is not known beforehand: pass some bytes, and more of them for as long as the
    /// answer is [`SnapshotTableDecode::NeedsBytes`]. It never asks for more than 64 MiB.
    ///
    /// # Errors
    /// Too many entries, an entry with more than 1024 bytes of extra data, or a table of more
    /// than 64 MiB. Offsets in errors are relative to the start of the table.
    pub fn decode(bytes: &[u8], count: u32) -> Result<SnapshotTableDecode, Error> {
        if count > limit::SNAPSHOT_COUNT_MAX {
            let found = u64::from(count);
            return Err(Error::number(TABLE, "nb_snapshots", None, found, "0..=65536"));
        }
        let mut snapshots: Vec<Snapshot> = Vec::new();
        let mut end = 0_usize;
        for _ in 0..count {
            let start = end.next_multiple_of(ENTRY_ALIGNMENT);
            validate_table_bytes(start as u64)?;
            if let Some(before) = snapshots.last_mut() {
                before.padding = bytes.get(end..start).unwrap_or(&[]).to_vec();
            }
            match decode_entry(bytes, start)? {
                Entry::Decoded(snapshot) => {
                    end = start.saturating_add(snapshot.entry_bytes());
                    snapshots.push(snapshot);
                }
                Entry::NeedsBytes(needed) => {
                    validate_table_bytes(needed as u64)?;
                    return Ok(SnapshotTableDecode::NeedsBytes(needed as u64));
                }
            }
        }
        validate_table_bytes(end as u64)?;
        Ok(SnapshotTableDecode::Complete(Self { snapshots }))
    }

    /// The table as it lies on disk; nothing follows the last entry.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut table = Vec::new();
        for (index, snapshot) in self.snapshots.iter().enumerate() {
            if let Some(before) = index.checked_sub(1).and_then(|index| self.snapshots.get(index)) {
                table.extend_from_slice(&before.padding);
                // A snapshot that was the last one or is new has no padding yet.
                table.resize(table.len().next_multiple_of(ENTRY_ALIGNMENT), 0);
            }
            snapshot.encode_into(&mut table);
        }
        table
    }

    /// Bytes of the encoded table.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let end = self.snapshots.iter().fold(0_usize, |end, snapshot| {
            end.next_multiple_of(ENTRY_ALIGNMENT).saturating_add(snapshot.entry_bytes())
        });
        end as u64
    }

    /// The snapshots, in table order.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// Gives the snapshots away.
    #[must_use]
    pub fn into_snapshots(self) -> Vec<Snapshot> {
        self.snapshots
    }
}

fn validate_table_bytes(bytes: u64) -> Result<(), Error> {
    if bytes > limit::SNAPSHOT_TABLE_BYTES_MAX {
        return Err(Error::number(TABLE, "length", None, bytes, "0 to 64 MiB"));
    }
    Ok(())
}

enum Entry {
    Decoded(Snapshot),
    NeedsBytes(usize),
}

fn decode_entry(bytes: &[u8], start: usize) -> Result<Entry, Error> {
    let rest = bytes.get(start..).unwrap_or(&[]);
    let Ok((head, after)) = RawSnapshotHead::read_from_prefix(rest) else {
        return Ok(Entry::NeedsBytes(start.saturating_add(size_of::<RawSnapshotHead>())));
    };
    let extra_bytes = head.extra_data_size.get();
    if extra_bytes > limit::SNAPSHOT_EXTRA_BYTES_MAX {
        let at = (start as u64).checked_add(36);
        let found = u64::from(extra_bytes);
        return Err(Error::number(TABLE, "extra_data_size", at, found, "0..=1024"));
    }
    let parts = after.split_at_checked(extra_bytes as usize).and_then(|(extra, after)| {
        let (id, after) = after.split_at_checked(usize::from(head.id_str_size.get()))?;
        let (name, _) = after.split_at_checked(usize::from(head.name_size.get()))?;
        Some((extra, id, name))
    });
    let Some((extra, id, name)) = parts else {
        let bytes = usize::try_from(head.entry_bytes()).unwrap_or(usize::MAX);
        return Ok(Entry::NeedsBytes(start.saturating_add(bytes)));
    };
    Ok(Entry::Decoded(Snapshot {
        head,
        extra: extra.to_vec(),
        id: id.to_vec(),
        name: name.to_vec(),
        padding: Vec::new(),
    }))
}
