//! The areas of the image file that the header itself points at, and how they lie.

use alloc::vec::Vec;

use super::Header;
use crate::error::{Error, Structure};
use crate::limit::SECTOR_BYTES;
use crate::unit::HostOffset;

/// A stretch of the image file that belongs to one structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Area {
    /// Whose it is.
    pub structure: Structure,
    /// First byte.
    pub offset: HostOffset,
    /// Length in bytes, not rounded to clusters.
    pub bytes: u64,
}

impl Header {
    /// Cluster 0, the L1 table, the refcount table, and of the snapshot table the start (its true
    /// length is in its entries); empty ones left out.
    #[must_use]
    pub fn areas(&self) -> Vec<Area> {
        let geometry = self.geometry;
        let refcount_table_bytes =
            u64::from(self.refcount_table.count).saturating_mul(geometry.cluster_bytes());
        let areas = [
            (Structure::Header, HostOffset::ZERO, geometry.cluster_bytes()),
            (
                Structure::L1Table,
                self.l1_table.offset,
                u64::from(self.l1_table.count).saturating_mul(8),
            ),
            (Structure::RefcountTable, self.refcount_table.offset, refcount_table_bytes),
            (
                Structure::SnapshotTable,
                self.snapshot_table.offset,
                u64::from(self.snapshot_table.count).saturating_mul(40),
            ),
        ];
        areas
            .into_iter()
            .map(|(structure, offset, bytes)| Area { structure, offset, bytes })
            .filter(|area| area.bytes > 0)
            .collect()
    }

    /// Compares the areas with each other: no two may share a cluster.
    ///
    /// The reference implementation opens such images and finds out when it writes.
    ///
    /// # Errors
    /// The later of two areas that overlap.
    pub fn validate_areas_disjoint(&self) -> Result<(), Error> {
        let mut areas = self.areas();
        areas.sort_by_key(|area| area.offset);
        for pair in areas.windows(2) {
            let [first, second] = pair else { continue };
            let clusters = self.geometry.clusters_for(first.bytes);
            let bytes = clusters.saturating_mul(self.geometry.cluster_bytes());
            if first.offset.get().saturating_add(bytes) > second.offset.get() {
                let found = second.offset.get();
                let allowed = "clusters that no other table occupies";
                return Err(Error::hex(second.structure, "offset", None, found, allowed));
            }
        }
        Ok(())
    }

    /// Compares the areas with the length of the file. An L1 table may end past the end of the
    /// file, where it reads as unallocated, but must not start there; the refcount table and the
    /// snapshot table must lie inside, up to the last sector.
    ///
    /// # Errors
    /// The first area that lies outside.
    pub fn validate_against_file_len(&self, file_bytes: u64) -> Result<(), Error> {
        // Files are presented rounded up to sectors.
        let end = file_bytes.checked_next_multiple_of(SECTOR_BYTES).unwrap_or(u64::MAX);
        for area in self.areas() {
            let must_end_inside =
                matches!(area.structure, Structure::RefcountTable | Structure::SnapshotTable);
            let needed = if must_end_inside { area.bytes } else { 1 };
            if area.offset.get().checked_add(needed).is_none_or(|needed| needed > end) {
                let allowed = "inside the image file";
                let found = area.offset.get();
                return Err(Error::hex(area.structure, "offset", None, found, allowed));
            }
        }
        Ok(())
    }
}
