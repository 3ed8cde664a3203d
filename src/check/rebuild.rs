//! A new refcount structure from what was counted, for when the old one cannot be corrected.

use std::collections::BTreeSet;

use qcow2_format::{
    HostCluster, HostOffset, RefcountBlock, RefcountTableEntry, TablePointer, encode_table, limit,
};
use refcount::Census;

use super::CheckError;
use super::image::Image;
use super::pass::Count;
use super::references::clusters_of;

/// Writes blocks and table behind everything that is in use or in the file, then switches the
/// header by one write. The old structure stays untouched until then, and is free after.
pub(super) fn rebuild(image: &mut Image<'_>, count: &Count) -> Result<(), CheckError> {
    let mut wanted = without_old_structure(image, &count.census);
    let plan = place(image, &mut wanted, count)?;
    wanted.add(HostCluster::new(plan.start), plan.clusters(), 1);
    write_blocks(image, &wanted, &plan)?;
    let entries = plan.table_entries(image);
    let table = TablePointer {
        offset: HostOffset::new(plan.table_cluster() * image.layout.cluster_bytes()),
        count: u32::try_from(plan.table_clusters).unwrap_or(u32::MAX),
    };
    image.write(table.offset.get(), &encode_table(entries.iter().copied()))?;
    image.switch_refcount_table(table, entries)
}

/// Finds the first place behind everything where nothing points, not even a reference that
/// dangles behind the end of a file cut short. Dangling references that the longer file then
/// reaches count like any other; they read as zeros, as before.
fn place(image: &Image<'_>, wanted: &mut Census, count: &Count) -> Result<Plan, CheckError> {
    let mut start = count.end(image.layout).get();
    let mut reached = 0;
    loop {
        let dangling = count.dangling.counts().skip_while(|(at, _)| at.get() < reached);
        for (cluster, count) in dangling.take_while(|(at, _)| at.get() < start) {
            wanted.add(cluster, 1, count);
        }
        reached = start;
        let plan = Plan::new(image, wanted, start)?;
        match first_gap(&count.dangling, start, plan.clusters()) {
            gap if gap == start => return Ok(plan),
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

/// Where the new structure goes: blocks from `start` on, then the table.
struct Plan {
    start: u64,
    /// Indexes of the blocks that are needed, in the order in which they lie.
    blocks: BTreeSet<u64>,
    table_clusters: u64,
}

impl Plan {
    fn new(image: &Image<'_>, wanted: &Census, start: u64) -> Result<Self, CheckError> {
        let geometry = image.layout.geometry;
        let per_block = geometry.refcounts_per_block();
        let blocks = wanted.counts().map(|(cluster, _)| cluster.get() / per_block).collect();
        let mut plan = Self { start, blocks, table_clusters: 1 };
        // The structure counts itself, so it grows until that changes nothing.
        loop {
            let end = start + plan.clusters();
            let before = plan.clusters();
            plan.blocks.extend(start / per_block..=(end - 1) / per_block);
            let entries = plan.blocks.last().map_or(0, |last| last + 1);
            plan.table_clusters = entries.div_ceil(geometry.table_entries_per_cluster());
            if plan.clusters() == before {
                break;
            }
        }
        let (found, allowed) = (
            plan.table_clusters.saturating_mul(geometry.cluster_bytes()),
            limit::REFCOUNT_TABLE_BYTES_MAX,
        );
        if found > allowed {
            return Err(CheckError::RefcountTableTooLarge { found, allowed });
        }
        Ok(plan)
    }

    fn clusters(&self) -> u64 {
        self.blocks.len() as u64 + self.table_clusters
    }

    fn table_cluster(&self) -> u64 {
        self.start + self.blocks.len() as u64
    }

    /// Each block that is needed, with the cluster it will lie in.
    fn placed_blocks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.blocks.iter().copied().zip(self.start..)
    }

    fn table_entries(&self, image: &Image<'_>) -> Vec<u64> {
        let count = self.table_clusters * image.layout.geometry.table_entries_per_cluster();
        let mut entries = vec![0; usize::try_from(count).unwrap_or(usize::MAX)];
        for (index, cluster) in self.placed_blocks() {
            let offset = HostOffset::new(cluster * image.layout.cluster_bytes());
            if let Some(entry) = usize::try_from(index).ok().and_then(|i| entries.get_mut(i)) {
                *entry = RefcountTableEntry::new(offset).bits();
            }
        }
        entries
    }
}

fn write_blocks(image: &mut Image<'_>, wanted: &Census, plan: &Plan) -> Result<(), CheckError> {
    let geometry = image.layout.geometry;
    let (per_block, order) = (geometry.refcounts_per_block(), geometry.refcount_order());
    let block_bytes = usize::try_from(geometry.cluster_bytes()).unwrap_or(usize::MAX);
    let mut counts = wanted.counts().peekable();
    for (index, cluster) in plan.placed_blocks() {
        let mut block = RefcountBlock::zeroed(order, block_bytes);
        while let Some((counted, count)) =
            counts.next_if(|(counted, _)| counted.get() / per_block == index)
        {
            let slot = usize::try_from(counted.get() % per_block).unwrap_or(usize::MAX);
            let fits = block.set(slot, count.min(order.max_count()));
            debug_assert_eq!(fits, Ok(()), "the count was cut to the width");
        }
        image.write(cluster * geometry.cluster_bytes(), block.as_bytes())?;
    }
    Ok(())
}
