//! Guest offset to L2 entry: the walk through L1 table and slice cache, with the disk reads it
//! needs.

use std::ops::ControlFlow;

use block_io::StorageExt;
use cluster_map::{ClusterType, Mapping, Run, RunKind, Runs, SubclusterType, Subclusters};
use qcow2_format::{GuestOffset, HostOffset, L1Entry};

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::plan::ReadPlan;
use crate::slice_cache::{Slice, SliceNumber};
use crate::sync::Arc;

/// Place of an entry in the slice cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlicePlace {
    pub(crate) number: SliceNumber,
    pub(crate) index: usize,
}

impl Image {
    /// Where the bytes of a guest range come from, as far as this image knows.
    ///
    /// No data is read. The plan stays right as long as nobody changes the range; to carry it out
    /// while others write, take it from [`begin_read`](Image::begin_read).
    ///
    /// # Errors
    /// The range lies outside the disk, or a table is damaged or unreadable.
    pub fn plan_read(&self, offset: u64, len: u64) -> Result<ReadPlan> {
        self.check_range(offset, len)?;
        let mut runs = Runs::new();
        self.walk_runs(offset, len, |run| {
            runs.push(*run);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(ReadPlan { guest: GuestOffset::new(offset), len, runs })
    }

    /// The first run of [`plan_read`](Image::plan_read), without looking further than where it
    /// ends. `None` for an empty range.
    ///
    /// # Errors
    /// As for [`plan_read`](Image::plan_read).
    pub fn first_run(&self, offset: u64, len: u64) -> Result<Option<Run>> {
        self.check_range(offset, len)?;
        let mut first: Option<Run> = None;
        self.walk_runs(offset, len, |run| {
            first = Some(*run);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    /// Shows a range to `visit` run by run, each as long as it goes, until it has seen enough.
    pub(crate) fn walk_runs(
        &self,
        offset: u64,
        len: u64,
        mut visit: impl FnMut(&Run) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (mut at, end) = (offset, offset.saturating_add(len));
        let mut last: Option<Run> = None;
        while at < end {
            let run = self.piece_at(at, end)?;
            at += run.len;
            match &mut last {
                Some(last) if last.kind.continues(last.len, run.kind) => last.len += run.len,
                Some(whole) => {
                    if visit(whole)?.is_break() {
                        return Ok(());
                    }
                    *whole = run;
                }
                None => last = Some(run),
            }
        }
        last.map_or(Ok(()), |whole| visit(&whole).map(drop))
    }

    /// What one entry says about the bytes from `at` on, up to `end` or as far as it says the same.
    #[inline]
    fn piece_at(&self, at: u64, end: u64) -> Result<Run> {
        let guest = GuestOffset::new(at);
        let place = self.slice_place(guest);
        let mapping = match self.slices.look(place.number) {
            Some(slice) => slice.get(place.index),
            None => match self.slice_if_any(guest)? {
                Some(slice) => slice.get(place.index),
                // No L2 table: the whole range it would map is below.
                None => {
                    let len = self.to_table_end(at).min(end - at);
                    return Ok(Run { guest, len, kind: RunKind::Below { reserved: None } });
                }
            },
        };
        self.run_at(at, end, mapping)
    }

    /// What the entry of the cluster around guest byte `at` says about the bytes from there on,
    /// up to `end` or as far as it says the same.
    pub(crate) fn run_at(&self, at: u64, end: u64, mapping: Mapping) -> Result<Run> {
        let skip = self.geometry().offset_in_cluster(at);
        let cluster = GuestOffset::new(at - skip);
        let (len, kind) = if self.dialect.has_subclusters() {
            let all = Subclusters::classify(self.dialect, cluster, mapping)?;
            let bytes = self.geometry().subcluster_bytes();
            // A power of two; a division would take longer than all the rest.
            let run = all.run_from((skip >> bytes.trailing_zeros()) as u32);
            let inside = match run.kind {
                SubclusterType::Compressed(_) => skip,
                _ => skip & (bytes - 1),
            };
            let run_end = u64::from(run.first + run.count) * bytes;
            (run_end - skip, RunKind::of_subcluster(run.kind, inside))
        } else {
            let cluster = ClusterType::classify(self.dialect, cluster, mapping.entry)?;
            (self.geometry().cluster_bytes() - skip, RunKind::of(cluster, skip))
        };
        Ok(Run { guest: GuestOffset::new(at), len: len.min(end - at), kind })
    }

    /// The L2 entry that maps a guest offset; unallocated where there is no L2 table.
    pub(crate) fn mapping(&self, guest: GuestOffset) -> Result<Mapping> {
        let place = self.slice_place(guest);
        if let Some(slice) = self.slices.look(place.number) {
            return Ok(slice.get(place.index));
        }
        let slice = self.slice_if_any(guest)?;
        Ok(slice.map_or(Mapping::UNALLOCATED, |slice| slice.get(place.index)))
    }

    /// What the cluster that begins at `guest` is as a whole. With extended entries, whether its
    /// subclusters make sense is looked at, too.
    pub(crate) fn cluster_type(&self, guest: GuestOffset, mapping: Mapping) -> Result<ClusterType> {
        Ok(if self.dialect.has_subclusters() {
            Subclusters::classify(self.dialect, guest, mapping)?.cluster()
        } else {
            ClusterType::classify(self.dialect, guest, mapping.entry)?
        })
    }

    #[inline]
    pub(crate) fn slice_place(&self, guest: GuestOffset) -> SlicePlace {
        let cluster = guest.get() >> self.geometry().cluster_bits().get();
        let number = cluster >> self.slice_entry_bits;
        SlicePlace { number, index: (cluster - (number << self.slice_entry_bits)) as usize }
    }

    pub(crate) fn slice_bytes(&self) -> u64 {
        self.geometry().l2_entry_bytes() << self.slice_entry_bits
    }

    /// Guest bytes from `at` to the end of what its L2 table maps.
    pub(crate) fn to_table_end(&self, at: u64) -> u64 {
        let covered = self.geometry().l2_table_guest_bytes();
        covered - at % covered
    }

    /// The slice that maps a guest offset; `None` when there is no L2 table.
    pub(crate) fn slice_if_any(&self, guest: GuestOffset) -> Result<Option<Arc<Slice>>> {
        let number = self.slice_place(guest).number;
        if let Ok(slice) = self.slices.get(number) {
            return Ok(Some(slice));
        }
        // From looking at the L1 entry to having read the slice, its table must not be given to
        // somebody else; not every caller has a pin of its own.
        let _pin = self.pins.pin();
        loop {
            let ticket = match self.slices.get(number) {
                Ok(slice) => return Ok(Some(slice)),
                Err(ticket) => ticket,
            };
            let Some(at) = self.slice_offset(number)? else { return Ok(None) };
            let slice = self.load_slice(number, at)?;
            if let Some(slice) = self.slices.insert(number, slice, ticket) {
                return Ok(Some(slice));
            }
        }
    }

    /// Where a slice lies on disk; `None` when there is no L2 table.
    pub(crate) fn slice_offset(&self, number: SliceNumber) -> Result<Option<HostOffset>> {
        let per_table = self.geometry().l2_entry_count() >> self.slice_entry_bits;
        let l1_index = number / per_table;
        let Some(table) = self.l2_table_offset(l1_index, self.l1.get(l1_index))? else {
            return Ok(None);
        };
        let skip = (number % per_table) * self.slice_bytes();
        Ok(table.checked_add(skip))
    }

    /// Where an L1 entry points, checked.
    pub(crate) fn l2_table_offset(
        &self,
        l1_index: u64,
        entry: L1Entry,
    ) -> Result<Option<HostOffset>> {
        let Some(found) = entry.table_offset() else { return Ok(None) };
        let misplaced =
            |allowed| Error::Misplaced { table: "L1 table", index: l1_index, found, allowed };
        if !self.geometry().is_cluster_aligned(found.get()) {
            return Err(misplaced("a multiple of the cluster size"));
        }
        Ok(Some(found))
    }

    fn load_slice(&self, number: SliceNumber, at: HostOffset) -> Result<Slice> {
        let mut buf = vec![0; self.slice_bytes() as usize];
        let read = self
            .storage
            .read_zero_filled(at.get(), &mut buf)
            .map_err(Error::storage(Purpose::L2Table))?;
        if read == 0 {
            self.refuse_lost_table(number, at)?;
        }
        let (words, _) = buf.as_chunks::<8>();
        let mut words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
        self.doubt_copied_flags(&mut words);
        Ok(Slice::new(self.geometry().l2_layout(), words.into_iter()))
    }

    /// A table may end past the end of the file, where it is zeros. One that begins there is lost.
    pub(crate) fn refuse_lost_table(&self, number: SliceNumber, slice: HostOffset) -> Result<()> {
        let geometry = self.geometry();
        let found = HostOffset::new(geometry.cluster_start(slice.get()));
        if found.get() < self.storage.len().map_err(Error::storage(Purpose::Length))? {
            return Ok(());
        }
        let index = number / (geometry.l2_entry_count() >> self.slice_entry_bits);
        let allowed = "an offset inside the file";
        Err(Error::Misplaced { table: "L1 table", index, found, allowed })
    }
}
