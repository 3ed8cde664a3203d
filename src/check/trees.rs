//! The trees of tables: the active one and those of the snapshots.
//!
//! Many L1 entries may point at one L2 table, in snapshots by design and in crafted images
//! millions of times. Each table is read once and counted as often as it is pointed at.

use std::collections::HashMap;

use qcow2_format::{HostOffset, L1Entry, Snapshot, TablePointer, limit};
use rayon::prelude::*;

use super::image::Image;
use super::l2_table::{self, TableReport, ZeroedEntry};
use super::pass::Count;
use super::{CheckError, CheckOptions, CheckProgress, Finding, FindingKind};

/// L2 tables at no cluster boundary that are read: real damage has few of them, while a crafted
/// image could have millions, each overlapping the next.
const UNALIGNED_TABLES_MAX: u64 = 4096;
/// Bytes of L2 tables that are inspected between two steps of sequential work.
const BATCH_BYTES: u64 = 4 << 20;

/// The L2 tables of an image.
#[derive(Debug, Default)]
pub(super) struct Trees {
    tables: Vec<Table>,
    by_offset: HashMap<u64, usize>,
    events: Vec<Event>,
    unaligned: u64,
}

#[derive(Clone, Copy, Debug)]
struct Table {
    offset: u64,
    /// L1 entries that point here.
    weight: u64,
    /// Those of the active L1 table.
    active_weight: u64,
}

/// What there is to report, in the order of the tables.
#[derive(Debug)]
enum Event {
    Finding(Finding, u64),
    Table(usize),
}

/// An L1 table and how many snapshots share it.
#[derive(Clone, Copy, Debug)]
struct Source {
    table: TablePointer,
    weight: u64,
    is_active: bool,
}

/// An entry of some L2 table that a repair would replace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    pub(super) table_offset: u64,
    pub(super) entry: ZeroedEntry,
}

impl Trees {
    /// Reads all L1 tables; counts them and the L2 tables they point at.
    pub(super) fn collect(
        image: &Image<'_>,
        snapshots: &[Snapshot],
        count: &mut Count,
    ) -> Result<Self, CheckError> {
        let mut trees = Self::default();
        let active = Source { table: image.header.l1_table(), weight: 1, is_active: true };
        trees.collect_source(image, active, count)?;
        if image.layout.has_data_file && !snapshots.is_empty() {
            trees.error(FindingKind::SnapshotsWithDataFile, 1);
        }
        let mut weights: HashMap<(HostOffset, u32), u64> = HashMap::new();
        for snapshot in snapshots {
            let TablePointer { offset, count } = snapshot.l1_table();
            *weights.entry((offset, count)).or_default() += 1;
        }
        for snapshot in snapshots {
            let table = snapshot.l1_table();
            if let Some(kind) = snapshot_fault(image, snapshot) {
                trees.error(kind, 1);
            } else if let Some(weight) = weights.remove(&(table.offset, table.count)) {
                let source = Source { table, weight, is_active: false };
                trees.collect_source(image, source, count)?;
            }
        }
        Ok(trees)
    }

    fn collect_source(
        &mut self,
        image: &Image<'_>,
        source: Source,
        count: &mut Count,
    ) -> Result<(), CheckError> {
        let entries = u64::from(source.table.count);
        let offset = source.table.offset.get();
        self.refer(image, offset, entries * 8, source.weight, count);
        for word in image.read_words(offset, entries)? {
            if word != 0 {
                self.collect_entry(image, source, L1Entry::from_bits(word), count)?;
            }
        }
        Ok(())
    }

    fn collect_entry(
        &mut self,
        image: &Image<'_>,
        source: Source,
        entry: L1Entry,
        count: &mut Count,
    ) -> Result<(), CheckError> {
        if entry.reserved_bits() != 0 {
            self.error(FindingKind::L1ReservedBits { entry: entry.bits() }, source.weight);
        }
        let offset = entry.table_offset().unwrap_or(HostOffset::ZERO).get();
        self.refer(image, offset, image.layout.cluster_bytes(), source.weight, count);
        let is_aligned = image.layout.geometry.is_cluster_aligned(offset);
        if !is_aligned {
            self.error(FindingKind::L2TableUnaligned { offset }, source.weight);
        }
        let index = match self.by_offset.get(&offset) {
            Some(&index) => index,
            None => self.add_table(offset, is_aligned)?,
        };
        let table = &mut self.tables[index];
        table.weight = table.weight.saturating_add(source.weight);
        if source.is_active {
            table.active_weight += 1;
        }
        Ok(())
    }

    fn add_table(&mut self, offset: u64, is_aligned: bool) -> Result<usize, CheckError> {
        if !is_aligned {
            self.unaligned += 1;
            if self.unaligned > UNALIGNED_TABLES_MAX {
                return Err(CheckError::TooManyUnalignedTables { allowed: UNALIGNED_TABLES_MAX });
            }
        }
        let index = self.tables.len();
        self.tables.push(Table { offset, weight: 0, active_weight: 0 });
        self.by_offset.insert(offset, index);
        self.events.push(Event::Table(index));
        Ok(index)
    }

    fn refer(
        &mut self,
        image: &Image<'_>,
        offset: u64,
        bytes: u64,
        weight: u64,
        count: &mut Count,
    ) {
        if let Err(kind) = count.add(image.layout, offset, bytes, weight) {
            self.error(kind, weight);
        }
    }

    fn error(&mut self, kind: FindingKind, weight: u64) {
        self.events.push(Event::Finding(Finding::error(kind), weight));
    }

    /// Reads all L2 tables and counts what they refer to. Returns the entries that a repair
    /// would replace.
    pub(super) fn inspect(
        &mut self,
        image: &Image<'_>,
        options: CheckOptions<'_>,
        count: &mut Count,
    ) -> Result<Vec<Replacement>, CheckError> {
        let mut replacements = Vec::new();
        let tables_total = self.tables.len() as u64;
        let mut tables_done = 0;
        let events = std::mem::take(&mut self.events);
        for batch in events.chunks(batch_tables(image)) {
            let reports: Vec<Option<Result<TableReport, CheckError>>> = batch
                .par_iter()
                .map(|event| match event {
                    Event::Finding(..) => None,
                    &Event::Table(index) => Some(read_table(image, self.tables[index].offset)),
                })
                .collect();
            for (event, report) in batch.iter().zip(reports) {
                match (event, report) {
                    (Event::Table(index), Some(report)) => {
                        let table = self.tables[*index];
                        tables_done += 1;
                        replacements.extend(table.fold(image, report?, count));
                    }
                    (Event::Finding(finding, weight), _) => {
                        count.found(image.layout, finding.clone(), *weight);
                    }
                    (Event::Table(_), None) => {}
                }
            }
            if let Some(progress) = options.progress {
                progress(CheckProgress { tables_done, tables_total });
            }
        }
        Ok(replacements)
    }

    /// Whether an L2 table shares its cluster with nothing else, so that it may be repaired.
    pub(super) fn is_alone(&self, image: &Image<'_>, offset: u64, count: &Count) -> bool {
        let weight = self.by_offset.get(&offset).map_or(0, |&index| self.tables[index].weight);
        let geometry = image.layout.geometry;
        let cluster = geometry.host_cluster(HostOffset::new(offset));
        geometry.is_cluster_aligned(offset) && count.census.get(cluster) == weight
    }

    /// How often the active L1 table points at an L2 table.
    pub(super) fn active_weight(&self, offset: u64) -> u64 {
        self.by_offset.get(&offset).map_or(0, |&index| self.tables[index].active_weight)
    }
}

impl Table {
    /// Adds what was found in the table, as often as it is pointed at.
    fn fold(
        self,
        image: &Image<'_>,
        report: TableReport,
        count: &mut Count,
    ) -> impl Iterator<Item = Replacement> + use<> {
        for clusters in report.references {
            count.add_clusters(clusters, self.weight);
        }
        for finding in report.findings {
            count.found(image.layout, finding, self.weight);
        }
        let totals = &mut count.tally.report;
        let weight = self.active_weight;
        totals.allocated_clusters += report.allocated.saturating_mul(weight);
        totals.fragmented_clusters += report.fragmented.saturating_mul(weight);
        totals.compressed_clusters += report.compressed.saturating_mul(weight);
        let table_offset = self.offset;
        report.zeroable.into_iter().map(move |entry| Replacement { table_offset, entry })
    }
}

fn read_table(image: &Image<'_>, offset: u64) -> Result<TableReport, CheckError> {
    let bytes = image.read(offset, image.layout.cluster_bytes())?;
    Ok(l2_table::inspect(image.layout, &bytes))
}

/// Tables that are inspected between two steps of sequential work: enough for all threads, few
/// enough that what they find stays small.
pub(super) fn batch_tables(image: &Image<'_>) -> usize {
    let tables = usize::try_from(BATCH_BYTES / image.layout.cluster_bytes()).unwrap_or(0);
    tables.max(rayon::current_num_threads())
}

fn snapshot_fault(image: &Image<'_>, snapshot: &Snapshot) -> Option<FindingKind> {
    let table = snapshot.l1_table();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (id, name) = (text(snapshot.id()), text(snapshot.name()));
    let offset = table.offset.get();
    if !image.layout.geometry.is_cluster_aligned(offset) {
        return Some(FindingKind::SnapshotL1Unaligned { id, name, offset });
    }
    if u64::from(table.count) * 8 > limit::L1_TABLE_BYTES_MAX {
        return Some(FindingKind::SnapshotL1TooLarge { id, name, entries: table.count });
    }
    None
}
