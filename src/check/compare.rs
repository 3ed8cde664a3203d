//! What is stored against what was counted.

use qcow2_format::RefcountTableEntry;
use refcount::{Census, Mismatch};

use super::image::Image;
use super::pass::Count;
use super::stored::{BlockWriter, Stored};
use super::tally::Tally;
use super::{CheckError, Finding, FindingKind, Repair, Severity};

/// What is wrong with the refcount blocks as a structure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockFaults {
    /// Errors found.
    pub(super) corruptions: u64,
    /// The structure cannot be corrected: it must be rebuilt before anything is written to it.
    pub(super) is_broken: bool,
    /// A block lies behind the end of the file: its counts are 0, and cannot be changed.
    pub(super) lacks_block: bool,
}

/// Counts the refcount blocks themselves.
pub(super) fn count_blocks(image: &Image<'_>, count: &mut Count) -> BlockFaults {
    let mut faults = BlockFaults::default();
    let before = count.tally.report.corruptions;
    let geometry = image.layout.geometry;
    let max = geometry.refcount_order().max_count();
    for (index, &word) in image.refcount_table.iter().enumerate() {
        let (index, entry) = (index as u64, RefcountTableEntry::from_bits(word));
        let offset = entry.block_offset();
        let fault = if entry.reserved_bits() != 0 {
            Some(FindingKind::RefcountTableReservedBits { index })
        } else if let Some(offset) = offset {
            if !geometry.is_cluster_aligned(offset.get()) {
                Some(FindingKind::RefcountBlockUnaligned { index })
            } else if geometry.host_cluster(offset) >= count.end(image.layout) {
                Some(FindingKind::RefcountBlockOutside { index })
            } else {
                count.refer(image.layout, offset.get(), geometry.cluster_bytes(), 1);
                let references = count.census.get(geometry.host_cluster(offset)).min(max);
                (references != 1).then_some(FindingKind::RefcountBlockShared { index, references })
            }
        } else {
            None
        };
        if let Some(kind) = fault {
            match kind {
                FindingKind::RefcountBlockOutside { .. } => faults.lacks_block = true,
                _ => faults.is_broken = true,
            }
            count.tally.error(kind);
        }
    }
    faults.corruptions = count.tally.report.corruptions - before;
    faults
}

/// Reports the clusters that are referenced more often than their counts can say.
pub(super) fn report_overflows(image: &Image<'_>, count: &mut Count) {
    let geometry = image.layout.geometry;
    let max = geometry.refcount_order().max_count();
    let Count { census, tally, .. } = count;
    for (cluster, references) in census.above(max) {
        let offset = cluster.get().saturating_mul(geometry.cluster_bytes());
        tally.add(Finding::error(FindingKind::Overflow { offset }), references - max);
    }
}

/// What the comparison comes down to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    /// A cluster in use is stored as free: counts cannot be corrected one by one, because finding
    /// room for a new block could hand out that very cluster.
    pub(super) rebuild: bool,
    /// One more than the highest cluster that is stored or counted.
    pub(super) end: u64,
}

/// Compares, and corrects what `repair` says.
pub(super) fn compare(
    image: &mut Image<'_>,
    census: &Census,
    stored: &Stored,
    tally: &mut Tally,
    repair: Repair,
) -> Result<Comparison, CheckError> {
    let max = image.layout.geometry.refcount_order().max_count();
    let mut writer = BlockWriter::default();
    let mut rebuild = false;
    let mut unreadable = stored.unreadable().iter().peekable();
    let mut skip_until = 0;
    for mismatch in Census::mismatches(&stored.counts, census, max) {
        let cluster = mismatch.cluster.get();
        while let Some(range) = unreadable.next_if(|range| range.start <= cluster) {
            report_unreadable(tally, range.start, range.end);
            skip_until = range.end;
        }
        if cluster < skip_until {
            continue;
        }
        rebuild |= mismatch.stored == 0;
        if is_repaired(mismatch, repair) {
            writer.set(image, cluster, mismatch.counted)?;
        }
        report_mismatch(tally, mismatch, repair);
    }
    for range in unreadable {
        report_unreadable(tally, range.start, range.end);
    }
    writer.finish(image)?;
    Ok(Comparison { rebuild, end: end_in_use(census, stored) })
}

const fn is_repaired(mismatch: Mismatch, repair: Repair) -> bool {
    let is_leak = mismatch.stored > mismatch.counted;
    match repair {
        Repair::None => false,
        Repair::Leaks => is_leak,
        // A stored 0 has no block to write to, perhaps; it is never repaired one by one.
        Repair::All => is_leak || mismatch.stored > 0,
    }
}

fn report_mismatch(tally: &mut Tally, mismatch: Mismatch, repair: Repair) {
    let is_leak = mismatch.stored > mismatch.counted;
    let repaired = is_repaired(mismatch, repair);
    let severity = match (repaired, is_leak) {
        (true, _) => Severity::Repaired,
        (false, true) => Severity::Leak,
        (false, false) => Severity::Error,
    };
    match (repaired, is_leak) {
        (true, true) => tally.report.leaks_fixed += 1,
        (true, false) => tally.report.corruptions_fixed += 1,
        (false, _) => {}
    }
    let kind = FindingKind::Count {
        cluster: mismatch.cluster.get(),
        stored: mismatch.stored,
        references: mismatch.counted,
    };
    tally.add(Finding { severity, kind }, 1);
}

fn report_unreadable(tally: &mut Tally, start: u64, end: u64) {
    tally.add_many(end - start, |index| Finding {
        severity: Severity::Unchecked,
        kind: FindingKind::CountUnreadable { cluster: start + index },
    });
}

/// One more than the highest cluster that is stored or counted, of those that could be compared;
/// the header cluster always is.
fn end_in_use(census: &Census, stored: &Stored) -> u64 {
    let compared = |cluster: u64| {
        cluster < stored.limit() && !stored.unreadable().iter().any(|r| r.contains(&cluster))
    };
    if stored.unreadable().is_empty() {
        return census.end().max(stored.counts.end()).get().max(1);
    }
    let last = |census: &Census| {
        census.counts().map(|(cluster, _)| cluster.get() + 1).filter(|&end| compared(end - 1)).max()
    };
    last(census).max(last(&stored.counts)).unwrap_or(1)
}
