//! A new refcount structure from what was counted, for when the old one cannot be corrected.

use qcow2_format::{HostCluster, RefcountTableEntry, encode_table};
use refcount::Census;

use super::CheckError;
use super::image::Image;
use super::pass::Count;
use super::references::clusters_of;
use crate::refcount_layout::RefcountLayout;

/// Writes blocks and table behind everything that is in use or in the file, then switches the
/// header by one write. The old structure stays untouched until then, and is free after.
pub(super) fn rebuild(image: &mut Image<'_>, count: &Count) -> Result<(), CheckError> {
    let mut wanted = without_old_structure(image, &count.census);
    let layout = place(image, &mut wanted, count)?;
    layout.count_itself(&mut wanted);
    layout.blocks(&wanted, |offset, block| image.write(offset, block))?;
    let (table, entries) = (layout.table(), layout.table_entries());
    image.write(table.offset.get(), &encode_table(entries.iter().copied()))?;
    image.switch_refcount_table(table, entries)
}

/// Finds the first place behind everything where nothing points, not even a reference that
/// dangles behind the end of a file cut short. Dangling references that the longer file then
/// reaches count like any other; they read as zeros, as before.
fn place(
    image: &Image<'_>,
    wanted: &mut Census,
    count: &Count,
) -> Result<RefcountLayout, CheckError> {
    let mut start = count.end(image.layout).get();
    let mut reached = 0;
    loop {
        let dangling = count.dangling.counts().skip_while(|(at, _)| at.get() < reached);
        for (cluster, count) in dangling.take_while(|(at, _)| at.get() < start) {
            wanted.add(cluster, 1, count);
        }
        reached = start;
        let layout =
            RefcountLayout::new(image.layout.geometry, wanted, start).map_err(|large| {
                let (found, allowed) = (large.found, large.allowed);
                CheckError::RefcountTableTooLarge { found, allowed }
            })?;
        match first_gap(&count.dangling, start, layout.clusters()) {
            gap if gap == start => return Ok(layout),
            gap => start = gap,
        }
    }
}

/// The first place from `start` on where nothing points at any of `clusters` clusters.
fn first_gap(dangling: &Census, start: u64, clusters: u64) -> u64 {
    let mut start = start;
    for (cluster, _) in dangling.counts() {
        if cluster.get() >= start.saturating_add(clusters) {
            break;
        }
        start = start.max(cluster.get() + 1);
    }
    start
}

/// What was counted, but for the old refcount table and its blocks.
fn without_old_structure(image: &Image<'_>, census: &Census) -> Census {
    let mut wanted = census.clone();
    let cluster_bytes = image.layout.cluster_bytes();
    let mut drop = |offset: u64, bytes: u64| {
        if let Ok(Some(clusters)) = clusters_of(image.layout, offset, bytes) {
            for cluster in clusters.first..clusters.first + clusters.count {
                let cluster = HostCluster::new(cluster);
                wanted.set(cluster, wanted.get(cluster).saturating_sub(1));
            }
        }
    };
    let table = image.header.refcount_table();
    drop(table.offset.get(), u64::from(table.count) * cluster_bytes);
    for &word in &image.refcount_table {
        let entry = RefcountTableEntry::from_bits(word);
        // As when they were counted: entries that are broken in themselves were not.
        if let Some(offset) = entry.block_offset()
            && entry.reserved_bits() == 0
            && image.layout.geometry.is_cluster_aligned(offset.get())
        {
            drop(offset.get(), cluster_bytes);
        }
    }
    wanted
}
