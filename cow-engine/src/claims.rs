//! Claims: which host clusters the structures of an image as found say are theirs.
//!
//! Whoever is about to write needs to know all of them, also those that the active disk never
//! looks at: tables of snapshots, bitmaps, key material.

mod bitmaps;
mod snapshots;
mod table_words;

use block_io::Storage;
use qcow2_format::{Geometry, Header, HostOffset, L1Entry, RefcountTableEntry};

use crate::area_runs::AreaRuns;
use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::{MetadataMap, claim_error};

/// Refuses tables that cannot be those of the image: an L1 table that is not there would show an
/// empty disk, one that overlaps with others any other disk. Where L2 tables and data lie is only
/// looked at when they are needed: what can be read of a damaged image is worth reading.
pub(crate) fn check_for_reading(
    storage: &dyn Storage,
    header: &Header,
    l1: &[L1Entry],
) -> Result<()> {
    let mut claims = Claims::new(storage, header.geometry())?;
    if header.l1_table_offset().get() >= claims.file_bytes {
        // Refcounts, which may lie outside too, come after the L1 table there.
        header.validate_against_file_len(claims.file_bytes)?;
    }
    claims.header_tables(header)?;
    let geometry = header.geometry();
    let tables = l1.iter().filter_map(|entry| entry.table_offset());
    for table in tables.filter(|table| geometry.is_cluster_aligned(table.get())) {
        claims.claim(Area::L2Table, table, geometry.cluster_bytes())?;
    }
    Ok(())
}

/// Which host clusters hold metadata. Two structures on one cluster are an error, and so is a
/// table that lies past the end of the file; only L2 tables may be shared, with snapshots.
///
/// An entry of `l1` that calls a table its own which a snapshot uses, too, loses the COPIED flag:
/// written in place, the table would change under the snapshot.
pub(crate) fn claim_metadata(
    storage: &dyn Storage,
    header: &Header,
    l1: &mut [L1Entry],
    refcount_table: &[RefcountTableEntry],
) -> Result<MetadataMap> {
    let mut claims = Claims::new(storage, header.geometry())?;
    claims.header_tables(header)?;
    for (index, entry) in refcount_table.iter().enumerate() {
        if let Some(block) = entry.block_offset() {
            claims.claim_table(Area::RefcountBlock, "refcount table", index as u64, block)?;
        }
    }
    for (index, entry) in l1.iter().enumerate() {
        if let Some(table) = entry.table_offset() {
            claims.claim_table(Area::L2Table, "L1 table", index as u64, table)?;
        }
    }
    claims.snapshots(header)?;
    claims.bitmaps(header)?;
    if let Some(luks) = header.luks() {
        claims.claim(Area::EncryptionHeader, luks.offset, luks.bytes)?;
    }
    for entry in l1.iter_mut() {
        let owned = entry.table_offset().is_some_and(|table| claims.owns(Area::L2Table, table));
        *entry = entry.with_copied(entry.is_copied() && owned);
    }
    // Every L2 table of the disk may still come, and about as many refcount blocks.
    let tables_to_come = u64::from(header.l1_entry_count()).saturating_mul(2);
    Ok(MetadataMap::new(claims.geometry, claims.runs, tables_to_come))
}

/// Claims of one image, gathered.
struct Claims<'s> {
    storage: &'s dyn Storage,
    geometry: Geometry,
    file_bytes: u64,
    runs: AreaRuns,
}

impl<'s> Claims<'s> {
    fn new(storage: &'s dyn Storage, geometry: Geometry) -> Result<Self> {
        let file_bytes = storage.len().map_err(Error::storage(Purpose::Length))?;
        Ok(Self { storage, geometry, file_bytes, runs: AreaRuns::default() })
    }

    /// Claims `len` bytes from `host` on, rounded up to clusters.
    fn claim(&mut self, area: Area, host: HostOffset, len: u64) -> Result<()> {
        let first = self.geometry.host_cluster(host).get();
        let claimed = self.runs.claim(area, first, self.geometry.clusters_for(len));
        claimed.map_err(|refusal| claim_error(area, host, refusal))
    }

    /// Claims the cluster that entry `index` of `table` points at.
    fn claim_table(
        &mut self,
        area: Area,
        table: &'static str,
        index: u64,
        found: HostOffset,
    ) -> Result<()> {
        self.check_place(table, index, found)?;
        self.claim(area, found, self.geometry.cluster_bytes())
    }

    fn owns(&self, area: Area, host: HostOffset) -> bool {
        let cluster = self.geometry.host_cluster(host).get();
        self.runs.owner(cluster, cluster) == Some(area)
    }

    /// What the header points at: the tables without which nothing can be read.
    fn header_tables(&mut self, header: &Header) -> Result<()> {
        let cluster = self.geometry.cluster_bytes();
        self.claim(Area::Header, HostOffset::ZERO, cluster)?;
        self.claim(
            Area::L1Table,
            header.l1_table_offset(),
            u64::from(header.l1_entry_count()).saturating_mul(8),
        )?;
        self.claim(
            Area::RefcountTable,
            header.refcount_table_offset(),
            u64::from(header.refcount_table_clusters()).saturating_mul(cluster),
        )
    }

    fn check_place(&self, table: &'static str, index: u64, found: HostOffset) -> Result<()> {
        let misplaced = |allowed| Err(Error::Misplaced { table, index, found, allowed });
        if !self.geometry.is_cluster_aligned(found.get()) {
            return misplaced("a multiple of the cluster size");
        }
        if found.get() >= self.file_bytes {
            return misplaced("an offset inside the file");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
