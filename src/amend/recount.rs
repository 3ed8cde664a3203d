//! Refcounts of another width, and a snapshot table with what version 3 demands of it: both are
//! written behind the end of the file, and count themselves and no longer what they replace.

use block_io::{Storage, StorageExt};
use qcow2_format::{
    Header, HostCluster, HostOffset, RefcountBlock, RefcountOrder, RefcountTableEntry, Snapshot,
    SnapshotTable, SnapshotTableDecode, TablePointer, Version, encode_table, table_words,
};
use refcount::Census;

use super::AmendError;
use crate::refcount_layout::RefcountLayout;

/// The snapshot table of a header that became version 3, where its entries lack something.
pub(super) fn completed_snapshots(
    storage: &dyn Storage,
    header: &Header,
) -> Result<Option<SnapshotTable>, AmendError> {
    if header.version() == Version::V2 || header.snapshot_count() == 0 {
        return Ok(None);
    }
    let table = snapshots(storage, header)?;
    if !table.snapshots().iter().any(Snapshot::lacks_extra_data) {
        return Ok(None);
    }
    let size = header.virtual_size();
    let complete = |snapshot: Snapshot| snapshot.with_required_extra_data(size);
    let snapshots = table.into_snapshots().into_iter().map(complete).collect();
    Ok(Some(SnapshotTable::new(snapshots)?))
}

fn snapshots(storage: &dyn Storage, header: &Header) -> Result<SnapshotTable, AmendError> {
    let mut len = header.geometry().cluster_bytes();
    loop {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        storage.read_zero_filled(header.snapshot_table_offset().get(), &mut bytes)?;
        match SnapshotTable::decode(&bytes, header.snapshot_count())? {
            SnapshotTableDecode::Complete(table) => return Ok(table),
            SnapshotTableDecode::NeedsBytes(needed) => len = needed,
        }
    }
}

/// Writes the structures; tells where the refcount table and the snapshot table are, if there is a
/// new one. Nothing leads to them yet.
pub(super) fn write(
    storage: &dyn Storage,
    header: &Header,
    order: RefcountOrder,
    snapshots: Option<SnapshotTable>,
    report: &mut dyn FnMut(u64, u64),
) -> Result<(TablePointer, Option<TablePointer>), AmendError> {
    let old = header.geometry();
    let mut census = counts(storage, header, report)?;
    let len = storage.len()?;
    let mut start = old.clusters_for(len).max(census.end().get());
    let mut table = None;
    if let Some(snapshots) = snapshots {
        forget(&mut census, header, self::snapshots(storage, header)?.bytes());
        let clusters = old.clusters_for(snapshots.bytes());
        let offset = HostOffset::new(start * old.cluster_bytes());
        storage.write_at(offset.get(), &snapshots.encode())?;
        census.add(HostCluster::new(start), clusters, 1);
        table = Some(TablePointer { offset, count: header.snapshot_count() });
        start += clusters;
    }
    if let Some((cluster, found)) = census.above(order.max_count()).next() {
        let offset = cluster.get() * old.cluster_bytes();
        return Err(AmendError::Count { bits: order.bits(), offset, found });
    }
    let geometry = qcow2_format::Geometry::new(old.cluster_bits(), order, old.l2_layout())?;
    let layout = RefcountLayout::new(geometry, &census, start).map_err(|large| {
        AmendError::RefcountTableTooLarge { found: large.found, allowed: large.allowed }
    })?;
    layout.count_itself(&mut census);
    layout.blocks(&census, |offset, block| storage.write_at(offset, block))?;
    let refcounts = layout.table();
    storage.write_at(refcounts.offset.get(), &encode_table(layout.table_entries()))?;
    Ok((refcounts, table))
}

/// All counts, without those of the structure that holds them.
fn counts(
    storage: &dyn Storage,
    header: &Header,
    report: &mut dyn FnMut(u64, u64),
) -> Result<Census, AmendError> {
    let geometry = header.geometry();
    let (cluster_bytes, per_block) = (geometry.cluster_bytes(), geometry.refcounts_per_block());
    let table = header.refcount_table();
    let bytes = u64::from(table.count).saturating_mul(cluster_bytes);
    let mut words = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    storage.read_zero_filled(table.offset.get(), &mut words)?;
    let mut census = Census::new();
    let mut own = vec![(geometry.host_cluster(table.offset).get(), u64::from(table.count))];
    let total = words.len() as u64 / 8;
    for (index, word) in (0_u64..).zip(table_words(&words)) {
        report(index, total);
        let Some(offset) = RefcountTableEntry::from_bits(word.get()).block_offset() else {
            continue;
        };
        own.push((geometry.host_cluster(offset).get(), 1));
        let mut bytes = vec![0; usize::try_from(cluster_bytes).unwrap_or(usize::MAX)];
        storage.read_zero_filled(offset.get(), &mut bytes)?;
        let block = RefcountBlock::from_bytes(geometry.refcount_order(), bytes);
        for slot in 0..block.count() {
            match block.get(slot) {
                0 => {}
                count => census.set(HostCluster::new(index * per_block + slot as u64), count),
            }
        }
    }
    for (first, clusters) in own {
        for cluster in first..first.saturating_add(clusters) {
            let cluster = HostCluster::new(cluster);
            census.set(cluster, census.get(cluster).saturating_sub(1));
        }
    }
    Ok(census)
}

/// Takes the count of the old snapshot table away.
fn forget(census: &mut Census, header: &Header, bytes: u64) {
    let geometry = header.geometry();
    let first = geometry.host_cluster(header.snapshot_table_offset()).get();
    for cluster in first..first.saturating_add(geometry.clusters_for(bytes)) {
        let cluster = HostCluster::new(cluster);
        census.set(cluster, census.get(cluster).saturating_sub(1));
    }
}
