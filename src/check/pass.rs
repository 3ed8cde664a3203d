//! One pass of a check: count, compare, repair, compare flags.

use block_io::Storage;
use qcow2_format::HostCluster;
use refcount::Census;

use super::compare::{Comparison, compare, count_blocks, report_overflows};
use super::image::{Image, Layout};
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
    pub(super) tally: Tally,
}

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
            self.tally.add(Finding::error(kind), weight);
        }
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
    let mut count = Count::default();
    let geometry = image.layout.geometry;
    count.tally.report.total_clusters = geometry.clusters_for(image.header.virtual_size());
    let (trees, replacements) = count_references(&image, options, &mut count)?;
    let before_blocks = count.tally.report.corruptions;
    let broken = count_blocks(&image, &mut count);
    let blocks = Blocks { broken, corruptions: count.tally.report.corruptions - before_blocks };
    replace_entries(&mut image, &trees, &replacements, &mut count)?;
    report_overflows(&image, &mut count);
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

/// Everything but the refcount blocks.
fn count_references(
    image: &Image<'_>,
    options: CheckOptions<'_>,
    count: &mut Count,
) -> Result<(Trees, Vec<Replacement>), CheckError> {
    let layout = image.layout;
    let table = snapshots::load(image, &mut count.tally)?;
    count.census.add(HostCluster::ZERO, 1, 1);
    let mut trees = Trees::collect(image, table.snapshots(), count)?;
    let replacements = trees.inspect(image, options, count)?;
    count.refer(layout, image.header.snapshot_table_offset().get(), table.bytes(), 1);
    let refcount_table = image.header.refcount_table();
    let table_bytes = u64::from(refcount_table.count) * layout.cluster_bytes();
    count.refer(layout, refcount_table.offset.get(), table_bytes, 1);
    if let Some(luks) = image.header.luks() {
        count.refer(layout, luks.offset.get(), luks.bytes, 1);
    }
    bitmaps::count(image, count)?;
    Ok((trees, replacements))
}

/// Replaces entries that only reserve space, at a place that cannot be, by zero clusters. Done
/// once everything is counted: nothing is written into a table that something else claims too.
fn replace_entries(
    image: &mut Image<'_>,
    trees: &Trees,
    replacements: &[Replacement],
    count: &mut Count,
) -> Result<(), CheckError> {
    let layout = image.layout;
    for replacement in replacements {
        let (entry, table) = (replacement.entry, replacement.table_offset);
        if !trees.is_alone(image, table, count) {
            count.tally.add(replacement.refused(), replacement.weight);
            count.refer(layout, entry.offset, layout.cluster_bytes(), replacement.weight);
            continue;
        }
        let mut bytes = entry.descriptor.to_be_bytes().to_vec();
        bytes.extend(entry.bitmap.iter().flat_map(|bitmap| bitmap.to_be_bytes()));
        image.write(table + entry.index * layout.geometry.l2_entry_bytes(), &bytes)?;
        count.tally.report.corruptions_fixed += 1;
    }
    if !replacements.is_empty() {
        // The entries are gone before the counts fall.
        image.sync()?;
    }
    Ok(())
}

/// What was wrong with the refcount blocks as a structure.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    broken: bool,
    corruptions: u64,
}

/// Compares counts, and repairs them.
fn settle_counts(
    image: &mut Image<'_>,
    repair: Repair,
    count: &mut Count,
    blocks: Blocks,
) -> Result<Stored, CheckError> {
    let limit = count.end(image.layout).get();
    let stored = Stored::load(image, limit)?;
    let Count { census, tally } = &mut *count;
    let before = (tally.report.corruptions, tally.report.leaks);
    let comparison = compare(image, census, &stored, tally, Repair::None)?;
    set_end(image, tally, comparison);
    if repair == Repair::None {
        return Ok(stored);
    }
    if blocks.broken || comparison.rebuild {
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
        report.check_errors = 0;
        return Stored::load(image, count.end(image.layout).get());
    }
    if tally.report.leaks == 0 && tally.report.corruptions == 0 {
        return Ok(stored);
    }
    (tally.report.corruptions, tally.report.leaks) = before;
    let comparison = compare(image, census, &stored, tally, repair)?;
    set_end(image, tally, comparison);
    Stored::load(image, limit)
}

fn set_end(image: &Image<'_>, tally: &mut Tally, comparison: Comparison) {
    tally.report.image_end_offset = comparison.end.saturating_mul(image.layout.cluster_bytes());
}
