//! COPIED flags of the active tables against the stored counts.

use qcow2_format::{HostCluster, L1Entry, L2Entry, encode_table};
use rayon::prelude::*;

use super::image::Image;
use super::l2_table::{EntryType, entries, entry_type};
use super::pass::Count;
use super::stored::Stored;
use super::trees::{Trees, batch_tables};
use super::{CheckError, Finding, FindingKind, Severity};

/// An entry whose flag is wrong.
#[derive(Clone, Copy, Debug)]
struct WrongFlag {
    index: u64,
    entry: u64,
    count: u64,
}

/// What to look at, in the order of the active L1 table.
#[derive(Clone, Copy, Debug)]
enum Step {
    L1(WrongFlag),
    Table(u64),
}

/// Compares the flags of the active L1 table and its L2 tables with the stored counts; corrects
/// them if `repair` is set.
pub(super) fn check(
    image: &mut Image<'_>,
    trees: &Trees,
    stored: &Stored,
    count: &mut Count,
    repair: bool,
) -> Result<(), CheckError> {
    let table = image.header.l1_table();
    let words = image.read_words(table.offset.get(), u64::from(table.count))?;
    let steps = collect_steps(image, stored, &words)?;
    let repair_l1 = repair && is_l1_alone(image, count);
    for batch in steps.chunks(batch_tables(image)) {
        let wrong: Vec<Result<Vec<WrongFlag>, CheckError>> = batch
            .par_iter()
            .map(|step| match *step {
                Step::L1(_) => Ok(Vec::new()),
                Step::Table(offset) => wrong_flags(image, stored, offset),
            })
            .collect();
        for (step, wrong) in batch.iter().zip(wrong) {
            match *step {
                Step::L1(flag) => report_l1(count, flag, repair_l1),
                Step::Table(offset) => {
                    finish_table(image, trees, count, offset, &wrong?, repair)?;
                }
            }
        }
    }
    if repair_l1 {
        rewrite_l1(image, &steps, words)?;
    }
    Ok(())
}

fn collect_steps(
    image: &Image<'_>,
    stored: &Stored,
    words: &[u64],
) -> Result<Vec<Step>, CheckError> {
    let mut steps = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, &word) in words.iter().enumerate() {
        let entry = L1Entry::from_bits(word);
        let Some(table) = entry.table_offset() else { continue };
        let cluster = image.layout.geometry.host_cluster(table);
        let Some(count) = stored.get(image, cluster.get())? else { continue };
        if (count == 1) != entry.is_copied() {
            steps.push(Step::L1(WrongFlag { index: index as u64, entry: word, count }));
        }
        // A table that is pointed at again is counted by its weight.
        if seen.insert(table) {
            steps.push(Step::Table(table.get()));
        }
    }
    Ok(steps)
}

fn wrong_flags(
    image: &Image<'_>,
    stored: &Stored,
    offset: u64,
) -> Result<Vec<WrongFlag>, CheckError> {
    let layout = image.layout;
    let bytes = image.read(offset, layout.cluster_bytes())?;
    let mut wrong = Vec::new();
    for (index, (entry, _)) in entries(layout, &bytes).enumerate() {
        let EntryType::Space { offset, .. } = entry_type(layout, entry) else { continue };
        let count = match layout.has_data_file {
            true => Some(1),
            false => stored.get(image, offset / layout.cluster_bytes())?,
        };
        if let Some(count) = count
            && (count == 1) != entry.is_copied()
        {
            wrong.push(WrongFlag { index: index as u64, entry: entry.bits(), count });
        }
    }
    Ok(wrong)
}

fn report_l1(count: &mut Count, flag: WrongFlag, repair: bool) {
    let WrongFlag { index, entry, count: stored } = flag;
    let kind = FindingKind::CopiedL1 { index, entry, count: stored };
    add(count, kind, 1, repair);
}

fn finish_table(
    image: &mut Image<'_>,
    trees: &Trees,
    count: &mut Count,
    offset: u64,
    wrong: &[WrongFlag],
    repair: bool,
) -> Result<(), CheckError> {
    if wrong.is_empty() {
        return Ok(());
    }
    let repair = repair && trees.is_alone(image, offset, count);
    // A repair is done once, whoever else looks at the table then finds it in order.
    let weight = if repair { 1 } else { trees.active_weight(offset) };
    for flag in wrong {
        let kind = FindingKind::CopiedL2 { entry: flag.entry, count: flag.count };
        add(count, kind, weight, repair);
    }
    if repair { rewrite_l2(image, offset, wrong) } else { Ok(()) }
}

fn add(count: &mut Count, kind: FindingKind, weight: u64, repair: bool) {
    if repair {
        count.tally.report.corruptions_fixed += 1;
        count.tally.add(Finding { severity: Severity::Repaired, kind }, 1);
    } else {
        count.tally.add(Finding::error(kind), weight);
    }
}

/// One write from the first entry that changes to the last.
fn rewrite_l2(image: &mut Image<'_>, offset: u64, wrong: &[WrongFlag]) -> Result<(), CheckError> {
    let entry_bytes = image.layout.geometry.l2_entry_bytes();
    let ([first, ..], [.., last]) = (wrong, wrong) else { return Ok(()) };
    let start = offset + first.index * entry_bytes;
    let len = (last.index - first.index) * entry_bytes + 8;
    let mut bytes = image.read(start, len)?;
    for flag in wrong {
        let at = usize::try_from((flag.index - first.index) * entry_bytes).unwrap_or(usize::MAX);
        let entry = L2Entry::from_bits(flag.entry).with_copied(flag.count == 1);
        bytes[at..at + 8].copy_from_slice(&entry.bits().to_be_bytes());
    }
    image.write(start, &bytes)
}

/// Whether the active L1 table shares its clusters with nothing else.
fn is_l1_alone(image: &Image<'_>, count: &Count) -> bool {
    let table = image.header.l1_table();
    let first = table.offset.get() / image.layout.cluster_bytes();
    let clusters = image.layout.geometry.clusters_for(u64::from(table.count) * 8);
    (first..first + clusters).all(|cluster| count.census.get(HostCluster::new(cluster)) == 1)
}

fn rewrite_l1(image: &mut Image<'_>, steps: &[Step], words: Vec<u64>) -> Result<(), CheckError> {
    let mut words = words;
    let mut changed = false;
    for step in steps {
        let Step::L1(flag) = *step else { continue };
        let index = usize::try_from(flag.index).unwrap_or(usize::MAX);
        words[index] = L1Entry::from_bits(flag.entry).with_copied(flag.count == 1).bits();
        changed = true;
    }
    if changed {
        let offset = image.header.l1_table_offset().get();
        image.write(offset, &encode_table(words))?;
    }
    Ok(())
}
