//! Claims: which host clusters the structures of an image as found say are theirs.

use block_io::Storage;
use qcow2_format::{Geometry, Header, HostOffset, L1Entry, RefcountTableEntry};

use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::MetadataMap;

/// Refuses tables that cannot be those of the image: an L1 table that is not there would show an
/// empty disk, one that overlaps with others any other disk. Where L2 tables and data lie is only
/// looked at when they are needed: what can be read of a damaged image is worth reading.
pub(crate) fn check_for_reading(
    storage: &dyn Storage,
    header: &Header,
    l1: &[L1Entry],
) -> Result<()> {
    let len = storage.len().map_err(Error::storage(Purpose::Length))?;
    if header.l1_table_offset().get() >= len {
        // Refcounts, which may lie outside too, come after the L1 table there.
        header.validate_against_file_len(len)?;
    }
    let map = MetadataMap::new(header.geometry());
    claim_header_tables(&map, header)?;
    let tables = l1.iter().filter_map(|entry| entry.table_offset());
    for table in tables.filter(|table| header.geometry().is_cluster_aligned(table.get())) {
        map.claim(Area::L2Table, table, header.geometry().cluster_bytes())?;
    }
    Ok(())
}

/// Notes the clusters of what the header points at.
fn claim_header_tables(map: &MetadataMap, header: &Header) -> Result<()> {
    let cluster = header.geometry().cluster_bytes();
    map.claim(Area::Header, HostOffset::ZERO, cluster)?;
    map.claim(
        Area::L1Table,
        header.l1_table_offset(),
        u64::from(header.l1_entry_count()).saturating_mul(8),
    )?;
    map.claim(
        Area::RefcountTable,
        header.refcount_table_offset(),
        u64::from(header.refcount_table_clusters()).saturating_mul(cluster),
    )
}

/// Which host clusters hold metadata; two structures on one cluster are an error, and so is a
/// table that lies past the end of the file.
pub(crate) fn claim_metadata(
    storage: &dyn Storage,
    header: &Header,
    l1: &[L1Entry],
    refcount_table: &[RefcountTableEntry],
) -> Result<MetadataMap> {
    let geometry = header.geometry();
    let cluster = geometry.cluster_bytes();
    let file_bytes = storage.len().map_err(Error::storage(Purpose::Length))?;
    let map = MetadataMap::new(geometry);
    claim_header_tables(&map, header)?;
    for (index, entry) in refcount_table.iter().enumerate() {
        if let Some(block) = entry.block_offset() {
            check_place("refcount table", index, block, geometry, file_bytes)?;
            map.claim(Area::RefcountBlock, block, cluster)?;
        }
    }
    for (index, entry) in l1.iter().enumerate() {
        if let Some(table) = entry.table_offset() {
            check_place("L1 table", index, table, geometry, file_bytes)?;
            map.claim(Area::L2Table, table, cluster)?;
        }
    }
    Ok(map)
}

fn check_place(
    table: &'static str,
    index: usize,
    found: HostOffset,
    geometry: Geometry,
    file_bytes: u64,
) -> Result<()> {
    let misplaced = |allowed| Err(Error::Misplaced { table, index: index as u64, found, allowed });
    if !geometry.is_cluster_aligned(found.get()) {
        return misplaced("a multiple of the cluster size");
    }
    if found.get() >= file_bytes {
        return misplaced("an offset inside the file");
    }
    Ok(())
}
