//! One L2 table: what its entries refer to, and what is wrong with them. No I/O.

use qcow2_format::{CompressedDescriptor, L2Bitmap, L2Entry, L2Layout, table_words};

use super::image::Layout;
use super::references::{Clusters, clusters_of};
use super::{Finding, FindingKind};

/// What the entries of one L2 table refer to and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct TableReport {
    /// Clusters referred to, neighbours merged.
    pub(super) references: Vec<Clusters>,
    /// In the order of the entries.
    pub(super) findings: Vec<Finding>,
    pub(super) allocated: u64,
    pub(super) fragmented: u64,
    pub(super) compressed: u64,
    /// Entries that a repair replaces by a zero cluster: only space was reserved, at a place that
    /// cannot be.
    pub(super) zeroable: Vec<ZeroedEntry>,
}

/// An entry that a repair replaces by a zero cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct ZeroedEntry {
    pub(super) index: u64,
    /// Where the reserved space was said to be.
    pub(super) offset: u64,
    pub(super) descriptor: u64,
    /// With extended entries.
    pub(super) bitmap: Option<u64>,
}

/// What an entry is, with whatever is wrong about it left in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryType {
    /// Nothing here, or zeros without host space.
    Nothing,
    /// Host space, holding data or only reserved.
    Space { offset: u64, is_zero: bool },
    /// Compressed.
    Compressed,
}

/// Tells what an entry is.
pub(super) fn entry_type(layout: Layout, entry: L2Entry) -> EntryType {
    if entry.is_compressed() {
        return EntryType::Compressed;
    }
    let offset = entry.host_offset().get();
    // In extended entries the flag has no meaning: the bitmap says it.
    let is_zero = entry.has_zero_flag() && layout.geometry.l2_layout() == L2Layout::Standard;
    let at_start_of_data_file = layout.has_data_file && entry.is_copied() && !is_zero;
    if offset == 0 && !at_start_of_data_file {
        return EntryType::Nothing;
    }
    EntryType::Space { offset, is_zero }
}

/// The entries of an L2 table, with their bitmaps where they have them.
pub(super) fn entries(
    layout: Layout,
    bytes: &[u8],
) -> impl Iterator<Item = (L2Entry, Option<L2Bitmap>)> + '_ {
    let words = match layout.geometry.l2_layout() {
        L2Layout::Standard => 1,
        L2Layout::Extended => 2,
    };
    table_words(bytes).chunks_exact(words).map(|entry| {
        let bitmap = entry.get(1).map(|word| L2Bitmap::from_bits(word.get()));
        (L2Entry::from_bits(entry[0].get()), bitmap)
    })
}

/// Reads the entries of one L2 table.
pub(super) fn inspect(layout: Layout, bytes: &[u8]) -> TableReport {
    let mut walk = Walk { layout, report: TableReport::default(), next_offset: 0 };
    for (index, (entry, bitmap)) in entries(layout, bytes).enumerate() {
        // Most entries of most tables.
        if entry.bits() == 0 && bitmap.is_none_or(|bitmap| bitmap.bits() == 0) {
            continue;
        }
        walk.entry(index as u64, entry, bitmap);
    }
    walk.report
}

struct Walk {
    layout: Layout,
    report: TableReport,
    /// Where the next cluster would lie if nothing were fragmented; 0 at the start.
    next_offset: u64,
}

impl Walk {
    fn entry(&mut self, index: u64, entry: L2Entry, bitmap: Option<L2Bitmap>) {
        if entry.reserved_bits() != 0 {
            self.error(FindingKind::L2ReservedBits { entry: entry.bits() });
        }
        match entry_type(self.layout, entry) {
            EntryType::Compressed => self.compressed(index, entry, bitmap),
            EntryType::Nothing => {
                if bitmap.is_some_and(|bitmap| bitmap.allocated() != 0) {
                    self.error(FindingKind::UnallocatedWithSubclusters);
                }
            }
            EntryType::Space { offset, is_zero } => {
                let holds_data = match bitmap {
                    Some(bitmap) => bitmap.allocated() != 0,
                    None => !is_zero,
                };
                self.space(index, offset, bitmap, holds_data);
            }
        }
    }

    fn compressed(&mut self, index: u64, entry: L2Entry, bitmap: Option<L2Bitmap>) {
        let Some(descriptor) = CompressedDescriptor::decode(self.layout.geometry, entry) else {
            return;
        };
        let offset = descriptor.host_offset().get();
        if entry.is_copied() {
            self.error(FindingKind::CompressedCopied { offset });
        }
        let entry = entry.with_copied(false).bits();
        if self.layout.has_data_file {
            self.error(FindingKind::CompressedWithDataFile { index, entry });
            return;
        }
        if bitmap.is_some_and(|bitmap| bitmap.bits() != 0) {
            self.error(FindingKind::CompressedWithSubclusters { index, entry });
            return;
        }
        self.refer(offset, descriptor.readable_bytes());
        self.report.allocated += 1;
        self.report.compressed += 1;
        // Compressed clusters are fragmented by nature.
        self.report.fragmented += 1;
    }

    fn space(&mut self, index: u64, offset: u64, bitmap: Option<L2Bitmap>, holds_data: bool) {
        if bitmap.is_some_and(|bitmap| bitmap.allocated() & bitmap.zero() != 0) {
            self.error(FindingKind::SubclusterBitmap { offset });
        }
        if !self.layout.geometry.is_cluster_aligned(offset) {
            if holds_data {
                self.error(FindingKind::DataUnaligned { offset });
            } else {
                self.error(FindingKind::PreallocatedUnaligned { offset });
                self.zeroable(index, offset, bitmap);
            }
        }
        self.report.allocated += 1;
        if self.next_offset != 0 && offset != self.next_offset {
            self.report.fragmented += 1;
        }
        self.next_offset = offset + self.layout.cluster_bytes();
        if !self.layout.has_data_file {
            self.refer(offset, self.layout.cluster_bytes());
        }
    }

    fn zeroable(&mut self, index: u64, offset: u64, bitmap: Option<L2Bitmap>) {
        let (descriptor, bitmap) = match bitmap {
            None => (L2Entry::ZERO_PLAIN.bits(), None),
            Some(bitmap) => (0, Some(L2Bitmap::from_parts(0, bitmap.zero()).bits())),
        };
        self.report.zeroable.push(ZeroedEntry { index, offset, descriptor, bitmap });
    }

    fn refer(&mut self, offset: u64, bytes: u64) {
        match clusters_of(self.layout, offset, bytes) {
            Ok(None) => {}
            Ok(Some(clusters)) => match self.report.references.last_mut() {
                Some(last) if last.first + last.count == clusters.first => {
                    last.count += clusters.count;
                }
                _ => self.report.references.push(clusters),
            },
            Err(kind) => self.error(kind),
        }
    }

    fn error(&mut self, kind: FindingKind) {
        self.report.findings.push(Finding::error(kind));
    }
}
