//! Cutting: everything that is mapped from some cluster on is given up, and what lies below would
//! show again. For what the guest does not see, behind the end of the disk, and for a whole disk whose
//! backing file shows the same.

use block_io::StorageExt;
use cluster_map::{Mapping, ZeroMode};
use qcow2_format::{GuestOffset, HostOffset, L1Entry, L2Bitmap, L2Entry};
use refcount::HostRun;

use crate::error::{Error, Purpose, Result};
use crate::image::{Image, Writer};
use crate::write::{Touched, referenced};

impl Image {
    /// Whether anything that a disk of `size` bytes would show is mapped from `start` on, although
    /// the disk ends before: the state of a virtual machine, or what a larger disk has left.
    pub(super) fn has_mapped_from(&self, start: u64, size: u64) -> Result<bool> {
        let geometry = self.geometry();
        let covered = geometry.l2_table_guest_bytes();
        let part =
            start.next_multiple_of(covered).min(size.next_multiple_of(geometry.cluster_bytes()));
        for guest in self.cluster_starts(start, part) {
            if self.mapping(guest)? != Mapping::UNALLOCATED {
                return Ok(true);
            }
        }
        let tables = geometry.l1_entries_for(start)..geometry.l1_entries_for(size);
        Ok(tables.into_iter().any(|index| self.l1.get(index) != L1Entry::UNALLOCATED))
    }

    /// Refuses what [`cut`](Self::cut) could not give up, while nothing has changed yet.
    pub(crate) fn check_cut(&self, start: u64) -> Result<()> {
        let writer = self.writer()?;
        for guest in self.cluster_starts(start, start.next_multiple_of(self.covered())) {
            let cluster = self.cluster_type(guest, self.mapping(guest)?)?;
            self.guard_freed(writer, referenced(&writer.allocator, self, cluster))?;
        }
        for index in self.whole_tables(start) {
            let Some(table) = self.l2_table_offset(index, self.l1.get(index))? else { continue };
            self.mapped_by(writer, index, table, |run| self.guard_freed(writer, Some(run)))?;
        }
        Ok(())
    }

    /// Gives up everything that is mapped from `start`, a cluster boundary, on.
    pub(crate) fn cut(&mut self, start: u64) -> Result<()> {
        self.forget_slices_from(start);
        self.cut_part_of_table(start)?;
        for index in self.whole_tables(start) {
            self.relieve()?;
            self.cut_table(index)?;
        }
        self.flush_all()
    }

    /// Slices of tables that go away entirely are not needed, and must not outlive them.
    fn forget_slices_from(&mut self, start: u64) {
        let guest = GuestOffset::new(start.next_multiple_of(self.covered()));
        let number = self.slice_place(guest).number;
        self.slices.forget_from(number);
    }

    /// The entries from `start` to the end of the table that maps it, when that table maps
    /// something before, too.
    fn cut_part_of_table(&self, start: u64) -> Result<()> {
        let writer = self.writer()?;
        for guest in self.cluster_starts(start, start.next_multiple_of(self.covered())) {
            let mapping = self.mapping(guest)?;
            if mapping != Mapping::UNALLOCATED {
                let cluster = self.cluster_type(guest, mapping)?;
                let start = guest.get();
                let end = start.saturating_add(self.geometry().cluster_bytes());
                let touched = Touched { cluster: start, start, end };
                let new = Mapping::UNALLOCATED;
                self.zero_data_file(touched, ZeroMode::Unmap)?;
                self.change_mapping(writer, touched, cluster, new, ZeroMode::Unmap)?;
            }
        }
        Ok(())
    }

    /// A whole table. Its entries stay as they are: once the L1 entry is gone from the disk nothing
    /// leads to them, and then the counts fall.
    fn cut_table(&self, index: u64) -> Result<()> {
        let entry = self.l1.get(index);
        let writer = self.writer()?;
        if let Some(table) = self.l2_table_offset(index, entry)? {
            let table_run = HostRun { first: self.geometry().host_cluster(table), count: 1 };
            let mut runs = vec![table_run];
            self.mapped_by(writer, index, table, |run| {
                runs.push(run);
                Ok(())
            })?;
            self.l1.publish(index, L1Entry::UNALLOCATED);
            writer.map.retire(table_run);
            writer.allocator.unpublish(runs.into_iter(), true);
        } else if entry != L1Entry::UNALLOCATED {
            self.l1.publish(index, L1Entry::UNALLOCATED);
        }
        Ok(())
    }

    /// Shows the host clusters that a table refers to, neighbours in one piece.
    fn mapped_by(
        &self,
        writer: &Writer,
        index: u64,
        table: HostOffset,
        mut visit: impl FnMut(HostRun) -> Result<()>,
    ) -> Result<()> {
        let mut open: Option<HostRun> = None;
        let first = index.saturating_mul(self.covered());
        for (number, mapping) in self.read_table(index, table)?.into_iter().enumerate() {
            let skip = (number as u64).saturating_mul(self.geometry().cluster_bytes());
            let guest = GuestOffset::new(first.saturating_add(skip));
            let cluster = self.cluster_type(guest, mapping)?;
            let Some(run) = referenced(&writer.allocator, self, cluster) else { continue };
            match &mut open {
                Some(open) if open.end() == run.first.get() => open.count += run.count,
                _ => open.replace(run).map_or(Ok(()), &mut visit)?,
            }
        }
        open.map_or(Ok(()), visit)
    }

    /// All entries of a table, from the disk.
    fn read_table(&self, index: u64, table: HostOffset) -> Result<Vec<Mapping>> {
        let mut bytes = vec![0; self.geometry().cluster_bytes() as usize];
        let found = self
            .storage
            .read_zero_filled(table.get(), &mut bytes)
            .map_err(Error::storage(Purpose::L2Table))?;
        if found == 0 {
            let allowed = "an offset inside the file";
            return Err(Error::Misplaced { table: "L1 table", index, found: table, allowed });
        }
        let (words, _) = bytes.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |word| u64::from_be_bytes(*word));
        let step = self.geometry().l2_entry_bytes() as usize / 8;
        let mapping = |at: usize| Mapping {
            entry: L2Entry::from_bits(word(at)),
            bitmap: match self.dialect.has_subclusters() {
                true => L2Bitmap::from_bits(word(at + 1)),
                false => L2Bitmap::EMPTY,
            },
        };
        Ok((0..words.len()).step_by(step).map(mapping).collect())
    }

    /// Indexes of the tables that map nothing before `start`.
    fn whole_tables(&self, start: u64) -> core::ops::Range<u64> {
        self.geometry().l1_entries_for(start)..u64::from(self.header.l1_entry_count())
    }

    /// The guest clusters from `start`, a cluster boundary, to `end`.
    pub(super) fn cluster_starts(
        &self,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = GuestOffset> + use<> {
        (start..end).step_by(self.geometry().cluster_bytes() as usize).map(GuestOffset::new)
    }

    /// Guest bytes that one L2 table maps.
    fn covered(&self) -> u64 {
        self.geometry().l2_table_guest_bytes()
    }
}
