//! What each stretch of an image file holds, as the header and the active tables say it.

use core::fmt;
use core::ops::Range;

use block_io::{Storage, StorageExt};
use cow_engine::Area;
use qcow2_format::{
    CompressedDescriptor, Geometry, Header, HostOffset, IncompatibleFeatures, L1Entry, L2Entry,
    RefcountTableEntry, Structure, table_words,
};

use super::ExplainError;

/// Most stretches that are remembered: memory has a limit, however scattered an image is.
pub const CLAIMS_MAX: usize = 1 << 20;
/// Bytes of neighbouring L2 tables that are read at once; no table is larger.
const READ_BYTES: u64 = 2 << 20;

/// What a stretch of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AreaKind {
    /// Structures of one kind, or guest data.
    Structure(Area),
    /// Compressed guest data.
    CompressedData,
    /// More than one structure says that this is its own.
    Several,
    /// Nothing that was looked at points here: free clusters, leaks, and what internal snapshots
    /// and bitmaps own.
    Unreached,
}

/// A stretch of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileArea {
    /// Bytes of the file.
    pub range: Range<u64>,
    /// What they hold.
    pub kind: AreaKind,
    /// How many tables, blocks or clusters that is; 0 where there is nothing to count.
    pub count: u64,
}

impl fmt::Display for AreaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Structure(area) => area.fmt(f),
            Self::CompressedData => f.write_str("compressed guest data"),
            Self::Several => f.write_str("claimed more than once"),
            Self::Unreached => f.write_str("not reached from the active tables"),
        }
    }
}

/// All of the file, and whether everything found a place in the list.
pub(super) fn explain(
    storage: &dyn Storage,
    header: &Header,
    file_bytes: u64,
) -> Result<(Vec<FileArea>, bool), ExplainError> {
    let geometry = header.geometry();
    let mut claims = Claims { geometry, file_bytes, list: Vec::new(), is_complete: true };
    claims.header(header);
    let table = header.refcount_table();
    let bytes = u64::from(table.count) * geometry.cluster_bytes(); // at most 8 MiB
    for entry in read_words(storage, table.offset.get(), bytes)? {
        if let Some(block) = RefcountTableEntry::from_bits(entry).block_offset() {
            claims.cluster(Area::RefcountBlock, block.get());
        }
    }
    let table = header.l1_table();
    let words = read_words(storage, table.offset.get(), u64::from(table.count) * 8)?;
    let offset = |word: u64| L1Entry::from_bits(word).table_offset().map(HostOffset::get);
    let mut tables: Vec<u64> = words.into_iter().filter_map(offset).collect();
    tables.sort_unstable();
    tables.iter().for_each(|table| claims.cluster(Area::L2Table, *table));
    // A table that is named twice is claimed twice, but its entries are those of one table.
    tables.dedup();
    let step = geometry.cluster_bytes();
    let in_file = |table: &u64| table.is_multiple_of(step) && *table < file_bytes;
    tables.retain(in_file);
    for run in runs(&tables, step) {
        let words = read_words(storage, run.start, run.end - run.start)?;
        claims.l2_entries(&words, header);
    }
    let is_complete = claims.is_complete;
    Ok((claims.settle(), is_complete))
}

/// Words of a table, zeros past the end of the file. The caller has a limit for `bytes`.
fn read_words(storage: &dyn Storage, offset: u64, bytes: u64) -> Result<Vec<u64>, ExplainError> {
    let mut buffer = vec![0; bytes as usize];
    storage.read_zero_filled(offset, &mut buffer)?;
    Ok(table_words(&buffer).iter().map(|word| word.get()).collect())
}

/// Runs of tables that lie side by side, each short enough to be read at once.
fn runs(tables: &[u64], step: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for table in tables {
        match runs.last_mut() {
            Some(run) if run.end == *table && run.end - run.start < READ_BYTES => run.end += step,
            _ => runs.push(*table..table.saturating_add(step)),
        }
    }
    runs
}

/// Who says what is whose.
struct Claims {
    geometry: Geometry,
    file_bytes: u64,
    list: Vec<FileArea>,
    is_complete: bool,
}

impl Claims {
    /// What the header points at.
    fn header(&mut self, header: &Header) {
        for area in header.areas() {
            let kind = match area.structure {
                Structure::Header => Area::Header,
                Structure::L1Table => Area::L1Table,
                Structure::RefcountTable => Area::RefcountTable,
                _ => Area::SnapshotTable,
            };
            self.whole_clusters(kind, area.offset.get(), area.bytes);
        }
        if let Some(luks) = header.luks() {
            self.whole_clusters(Area::EncryptionHeader, luks.offset.get(), luks.bytes);
        }
        if let Some(bitmaps) = header.bitmaps() {
            let (start, bytes) = (bitmaps.directory_offset().get(), bitmaps.directory_bytes());
            self.whole_clusters(Area::BitmapDirectory, start, bytes);
        }
    }

    /// Everything that the entries of L2 tables point at in this file.
    fn l2_entries(&mut self, words: &[u64], header: &Header) {
        if header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE) {
            return;
        }
        for words in words.chunks((self.geometry.l2_entry_bytes() / 8) as usize) {
            let entry = L2Entry::from_bits(words[0]);
            match CompressedDescriptor::decode(self.geometry, entry) {
                Some(blob) => self.add(
                    AreaKind::CompressedData,
                    blob.host_offset().get(),
                    blob.readable_bytes(),
                    1,
                ),
                None if entry.host_offset().get() == 0 => {}
                None => self.cluster(Area::Data, entry.host_offset().get()),
            }
        }
    }

    fn cluster(&mut self, area: Area, start: u64) {
        self.add(AreaKind::Structure(area), start, self.geometry.cluster_bytes(), 1);
    }

    fn whole_clusters(&mut self, area: Area, start: u64, bytes: u64) {
        let bytes = bytes.checked_next_multiple_of(self.geometry.cluster_bytes());
        self.add(AreaKind::Structure(area), start, bytes.unwrap_or(u64::MAX), 1);
    }

    fn add(&mut self, kind: AreaKind, start: u64, bytes: u64, count: u64) {
        let end = start.saturating_add(bytes).min(self.file_bytes);
        if start >= end {
            return; // past the end of the file
        }
        let is_shared = kind == AreaKind::CompressedData;
        let is_full = self.list.len() >= CLAIMS_MAX;
        match self.list.last_mut() {
            Some(last)
                if last.kind == kind
                    && (last.range.end == start || is_shared && last.range.contains(&start)) =>
            {
                last.range.end = last.range.end.max(end);
                last.count += count;
            }
            _ if is_full => self.is_complete = false,
            _ => self.list.push(FileArea { range: start..end, kind, count }),
        }
    }

    /// Puts the claims in order, without gaps and overlaps.
    fn settle(mut self) -> Vec<FileArea> {
        self.list.sort_by_key(|area| (area.range.start, area.range.end));
        let mut areas = Vec::new();
        for claim in self.list {
            place(&mut areas, &claim);
        }
        let end = areas.last().map_or(0, |area: &FileArea| area.range.end);
        push(&mut areas, end..self.file_bytes, AreaKind::Unreached, 0);
        areas
    }
}

/// Adds a claim that begins where the last one began, or behind that.
fn place(areas: &mut Vec<FileArea>, claim: &FileArea) {
    let end = areas.last().map_or(0, |area| area.range.end);
    push(areas, end..claim.range.start, AreaKind::Unreached, 0);
    let disputed = claim.range.start..claim.range.end.min(end);
    // The last sector of one blob is the first one of the next.
    let is_shared = claim.kind == AreaKind::CompressedData
        && areas.last().is_some_and(|area| area.kind == AreaKind::CompressedData);
    if !disputed.is_empty() && !is_shared {
        let mut cut = Vec::new();
        while let Some(area) = areas.pop_if(|area| area.range.end > disputed.start) {
            cut.push(area);
        }
        for area in cut.into_iter().rev() {
            let Range { start, end } = area.range;
            let middle = start.max(disputed.start)..end.min(disputed.end);
            push(areas, start..end.min(disputed.start), area.kind, area.count);
            push(areas, middle, AreaKind::Several, 0);
            push(areas, start.max(disputed.end)..end, area.kind, area.count);
        }
    }
    let rest = claim.range.start.max(end)..claim.range.end;
    match areas.last_mut() {
        // A blob in a sector that is accounted for already is one more all the same.
        Some(last) if is_shared && rest.is_empty() => last.count += claim.count,
        _ => push(areas, rest, claim.kind, claim.count),
    }
}

/// Appends a stretch, to the last one if that is of the same kind.
fn push(areas: &mut Vec<FileArea>, range: Range<u64>, kind: AreaKind, count: u64) {
    if range.is_empty() {
        return;
    }
    match areas.last_mut() {
        Some(last) if last.kind == kind => {
            last.range.end = range.end;
            last.count += count;
        }
        _ => areas.push(FileArea { range, kind, count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn areas(claims: &[(u64, u64, AreaKind)], file_bytes: u64) -> Vec<(u64, u64, AreaKind)> {
        let geometry = Geometry::new(
            qcow2_format::ClusterBits::DEFAULT,
            qcow2_format::RefcountOrder::DEFAULT,
            qcow2_format::L2Layout::Standard,
        );
        let geometry = geometry.unwrap();
        let mut list = Claims { geometry, file_bytes, list: Vec::new(), is_complete: true };
        for (start, end, kind) in claims {
            list.add(*kind, *start, end - start, 1);
        }
        let areas = list.settle();
        areas.into_iter().map(|area| (area.range.start, area.range.end, area.kind)).collect()
    }

    const DATA: AreaKind = AreaKind::Structure(Area::Data);
    const L2: AreaKind = AreaKind::Structure(Area::L2Table);
    const BLOBS: AreaKind = AreaKind::CompressedData;
    const SEVERAL: AreaKind = AreaKind::Several;
    const NOTHING: AreaKind = AreaKind::Unreached;

    #[test]
    fn claims_become_stretches() {
        assert_eq!(areas(&[], 10), [(0, 10, NOTHING)]);
        assert_eq!(areas(&[(0, 4, DATA), (4, 12, DATA)], 10), [(0, 10, DATA)]);
        assert_eq!(
            areas(&[(6, 8, DATA), (2, 4, L2)], 10),
            [(0, 2, NOTHING), (2, 4, L2), (4, 6, NOTHING), (6, 8, DATA), (8, 10, NOTHING),]
        );
    }

    #[test]
    fn what_two_claim_belongs_to_several() {
        assert_eq!(
            areas(&[(0, 6, DATA), (4, 10, L2)], 10),
            [(0, 4, DATA), (4, 6, SEVERAL), (6, 10, L2),]
        );
        assert_eq!(
            areas(&[(0, 10, DATA), (2, 4, L2), (3, 6, L2)], 10),
            [(0, 2, DATA), (2, 6, SEVERAL), (6, 10, DATA),]
        );
        assert_eq!(areas(&[(0, 4, DATA), (0, 4, DATA)], 4), [(0, 4, SEVERAL)]);
        assert_eq!(
            areas(&[(0, 9, DATA), (2, 7, L2), (3, 4, BLOBS)], 9),
            [(0, 2, DATA), (2, 7, SEVERAL), (7, 9, DATA),]
        );
        // Blobs end somewhere in a sector that the next one begins in.
        assert_eq!(areas(&[(0, 6, BLOBS), (4, 9, BLOBS)], 9), [(0, 9, BLOBS)]);
        assert_eq!(areas(&[(4, 9, BLOBS), (0, 6, BLOBS)], 9), [(0, 9, BLOBS)]);
        assert_eq!(
            areas(&[(0, 6, BLOBS), (4, 9, L2)], 9),
            [(0, 4, BLOBS), (4, 6, SEVERAL), (6, 9, L2),]
        );
    }
}
