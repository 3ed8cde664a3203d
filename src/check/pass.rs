//! One pass of a check: count, compare, repair, compare flags.

use block_io::Storage;
use qcow2_format::HostCluster;
use refcount::Census;

use super::compare::{BlockFaults, Comparison, compare, count_blocks, report_overflows};
use super::image::{CLUSTERS_MAX, Image, Layout};
use super::references::{Clusters, clusters_of};
use super::stored::Stored;
use super::tally::Tally;
use super::trees::{Replacement, Trees};
use super::{
    CheckError, CheckOptions, CheckReport, Finding, FindingKind, Repair, Severity, bitmaps, copied,
    rebuild, snapshots,
};

/// References counted so far, and what was found on the way.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) census: Census,
    /// References that reach too far behind the end of the file to be counted. A repair that
    /// makes the file longer must not put anything where they point.
    pub(super) dangling: Census,
    pub(super) tally: Tally,
}

/// Clusters of one region that are remembered as dangling: crafted lengths may be huge.
const DANGLING_CLUSTERS_MAX: u64 = 1 << 16;

impl Count {
    /// Counts the clusters of a region, `weight` times.
    pub(super) fn add(
        &mut self,
        layout: Layout,
        offset: u64,
        bytes: u64,
        weight: u64,
    ) -> Result<(), FindingKind> {
        if let Some(clusters) = clusters_of(layout, offset, bytes)? {
            self.add_clusters(clusters, weight);
        }
        Ok(())
    }

    /// Like [`Count::add`], with the error among the findings.
    pub(super) fn refer(&mut self, layout: Layout, offset: u64, bytes: u64, weight: u64) {
        if let Err(kind) = self.add(layout, offset, bytes, weight) {
            self.found(layout, Finding::error(kind), weight);
        }
    }

    /// Keeps a finding, and counts it as its severity says, `weight` times.
    pub(super) fn found(&mut self, layout: Layout, finding: Finding, weight: u64) {
        if let FindingKind::BeyondEnd { offset, bytes } = finding.kind {
            let first = offset / layout.cluster_bytes();
            let last = offset.saturating_add(bytes - 1) / layout.cluster_bytes();
            let count = (last - first + 1).min(DANGLING_CLUSTERS_MAX);
            if first + count <= CLUSTERS_MAX {
                self.dangling.add(HostCluster::new(first), count, weight);
            }
        }
        self.tally.add(finding, weight);
    }

    pub(super) fn add_clusters(&mut self, clusters: Clusters, weight: u64) {
        self.census.add(HostCluster::new(clusters.first), clusters.count, weight);
    }

    /// One more than the highest cluster of the file or of what was counted.
    pub(super) fn end(&self, layout: Layout) -> HostCluster {
        HostCluster::new(layout.clusters_in_file()).max(self.census.end())
    }
}

/// Runs one pass.
pub(super) fn run(
    storage: &dyn Storage,
    options: CheckOptions<'_>,
) -> Result<CheckReport, CheckError> {
    let mut image = Image::open(storage)?;
    let mut counted = count_references(&image, options, Tally::default())?;
    if options.repair == Repair::All && !counted.replacements.is_empty() {
        let tally = replace_entries(&mut image, &counted)?;
        counted = count_references(&image, options, tally)?;
    }
    let Counted { mut count, trees, blocks, .. } = counted;
    let stored = settle_counts(&mut image, options.repair, &mut count, blocks)?;
    let repair_flags = match options.repair {
        Repair::None => false,
        Repair::Leaks => count.tally.is_clean() && count.tally.report.leaks == 0,
        Repair::All => true,
    };
    if options.repair != Repair::None {
        // Counts are right on disk before flags say so.
        image.sync()?;
    }
    copied::check(&mut image, &trees, &stored, &mut count, repair_flags)?;
    if options.repair != Repair::None {
        image.sync()?;
        if count.tally.is_clean() {
            image.clear_marks()?;
        }
    }
    Ok(count.tally.report)
}

/// All references, and what is needed to go on from there.
#[derive(Debug)]
struct Counted {
    count: Count,
    trees: Trees,
    replacements: Vec<Replacement>,
    blocks: BlockFaults,
}

fn count_references(
    image: &Image<'_>,
    options: CheckOptions<'_>,
    tally: Tally,
) -> Result<Counted, CheckError> {
    let layout = image.layout;
    let mut count = Count { tally, ..Count::default() };
    let size = image.header.virtual_size();
    count.tally.report.total_clusters = layout.geometry.clusters_for(size);
    let table = snapshots::load(image, &mut count.tally)?;
    count.census.add(HostCluster::ZERO, 1, 1);
    let mut trees = Trees::collect(image, table.snapshots(), &mut count)?;
    let replacements = trees.inspect(image, options, &mut count)?;
    count.refer(layout, image.header.snapshot_table_offset().get(), table.bytes(), 1);
    let refcount_table = image.header.refcount_table();
    let table_bytes = u64::from(refcount_table.count) * layout.cluster_bytes();
    count.refer(layout, refcount_table.offset.get(), table_bytes, 1);
    if let Some(luks) = image.header.luks() {
        count.refer(layout, luks.offset.get(), luks.bytes, 1);
    }
    bitmaps::count(image, &mut count)?;
    let blocks = count_blocks(image, &mut count);
    report_overflows(image, &mut count);
    Ok(Counted { count, trees, replacements, blocks })
}

/// Replaces entries that only reserve space, at a place that cannot be, by zero clusters. Nothing
/// is written into a table that something else claims too. Everything is to be counted again.
fn replace_entries(image: &mut Image<'_>, counted: &Counted) -> Result<Tally, CheckError> {
    let mut tally = Tally::default();
    for Replacement { table_offset, entry } in &counted.replacements {
        if !counted.trees.is_alone(image, *table_offset, &counted.count) {
            continue;
        }
        let mut bytes = entry.descriptor.to_be_bytes().to_vec();
        bytes.extend(entry.bitmap.iter().flat_map(|bitmap| bitmap.to_be_bytes()));
        let entry_bytes = image.layout.geometry.l2_entry_bytes();
        image.write(table_offset + entry.index * entry_bytes, &bytes)?;
        let kind = FindingKind::PreallocatedUnaligned { offset: entry.offset };
        tally.report.corruptions_fixed += 1;
        tally.add(Finding { severity: Severity::Repaired, kind }, 1);
    }
    // The entries are gone before the counts fall.
    image.sync()?;
    Ok(tally)
}

/// Compares counts, and repairs them.
fn settle_counts(
    image: &mut Image<'_>,
    repair: Repair,
    count: &mut Count,
    blocks: BlockFaults,
) -> Result<Stored, CheckError> {
    let limit = count.end(image.layout).get();
    let stored = Stored::load(image, limit)?;
    let Count { census, tally, .. } = &mut *count;
    let before = (tally.report.corruptions, tally.report.leaks, tally.report.check_errors);
    let comparison = compare(image, census, &stored, tally, Repair::None)?;
    set_end(image, tally, comparison);
    if repair == Repair::None {
        return Ok(stored);
    }
    let lacks_block = blocks.lacks_block && repair == Repair::All;
    if blocks.is_broken || lacks_block || comparison.rebuild {
        if repair == Repair::Leaks {
            let report = Box::new(std::mem::take(&mut tally.report));
            return Err(CheckError::RebuildNeeded { report });
        }
        tally.add(Finding { severity: Severity::Notice, kind: FindingKind::Rebuilding }, 1);
        rebuild::rebuild(image, count)?;
        let report = &mut count.tally.report;
        report.corruptions_fixed += report.corruptions - before.0 + blocks.corruptions;
        report.leaks_fixed += report.leaks - before.1;
        report.corruptions = before.0 - blocks.corruptions;
        report.leaks = before.1;
        report.check_errors = before.2;
        let stored = Stored::load(image, count.end(image.layout).get())?;
        // The new structure lies behind everything else.
        let end = stored.counts.end().get();
        let comparison = Comparison { rebuild: false, end };
        set_end(image, &mut count.tally, comparison);
        return Ok(stored);
    }
    if tally.report.leaks == 0 && tally.report.corruptions == 0 {
        return Ok(stored);
    }
    (tally.report.corruptions, tally.report.leaks, tally.report.check_errors) = before;
    let comparison = compare(image, census, &stored, tally, repair)?;
    set_end(image, tally, comparison);
    Stored::load(image, limit)
}

fn set_end(image: &Image<'_>, tally: &mut Tally, comparison: Comparison) {
    tally.report.image_end_offset = comparison.end.saturating_mul(image.layout.cluster_bytes());
}
