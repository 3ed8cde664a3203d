//! A longer L1 table: written in full, then one header write leads there.

use qcow2_format::{FieldUpdate, L1Entry, TablePointer};
use refcount::HostRun;

use crate::error::{Area, Error, Purpose, Result};
use crate::image::Image;
use crate::l1_table::L1Table;

impl Image {
    /// Moves the L1 table to a place where it has room for `entries`.
    pub(crate) fn move_l1_table(&mut self, entries: u32) -> Result<()> {
        let geometry = self.geometry();
        let writer = self.writer()?;
        let clusters = geometry.clusters_for(u64::from(entries) * 8);
        let offset = writer.allocator.reserve_area(&writer.map, Area::L1Table, clusters)?;
        let table = TablePointer { offset, count: entries };
        let copied: Vec<L1Entry> =
            (0..u64::from(entries)).map(|index| self.l1.get(index)).collect();
        let header = self.header.clone().with_l1_table(table)?;
        let written = self.write_l1_table(table, &copied, clusters);
        self.note_written();
        if let Err(error) = written {
            let released = writer.allocator.release_area(&writer.map, offset, clusters);
            self.poison.guard(released)?;
            return Err(error);
        }
        // CE-2: counts and entries are durable before anything leads there.
        self.flush_all()?;
        self.write_header(&FieldUpdate::l1_table(table))?;
        let old = self.header.l1_table();
        self.header = header;
        self.l1 = L1Table::new(copied.into_iter());
        let clusters = geometry.clusters_for(u64::from(old.count) * 8);
        if clusters > 0 {
            let old = HostRun { first: geometry.host_cluster(old.offset), count: clusters };
            let writer = self.writer()?;
            writer.map.retire(old);
            writer.allocator.unpublish(std::iter::once(old), false);
        }
        self.flush_all()
    }

    /// Writes all clusters of a table, its entries first and zeros to the end.
    fn write_l1_table(
        &self,
        table: TablePointer,
        entries: &[L1Entry],
        clusters: u64,
    ) -> Result<()> {
        let mut bytes: Vec<u8> =
            entries.iter().flat_map(|entry| entry.bits().to_be_bytes()).collect();
        bytes.resize((clusters * self.geometry().cluster_bytes()) as usize, 0);
        self.storage.write_at(table.offset.get(), &bytes).map_err(Error::storage(Purpose::L1Table))
    }
}
