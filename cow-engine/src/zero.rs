//! Writing zeros: by metadata where whole clusters can say "zeros", by data elsewhere.

mod subclusters;

use cluster_map::{ClusterType, Mapping, ZeroMode, zeroed_mapping};
use qcow2_format::GuestOffset;
use smallvec::{SmallVec, smallvec};

use crate::error::Result;
use crate::image::{Image, Writer};
use crate::write::{Touched, referenced};

/// Guest bytes (first, one past the last) that metadata cannot make zeros.
type NeedData = SmallVec<[(u64, u64); 2]>;

/// Most guest bytes that are held at once: one slice of 64 KiB clusters.
pub(crate) const HELD_BYTES_MAX: u64 = 32 << 20;
/// Zeros that are written as data at once.
const ZERO_BYTES: usize = 1 << 20;

impl Image {
    /// Makes a range read as zeros.
    ///
    /// Whole clusters change only their entry; with [`ZeroMode::Keep`] their host clusters stay
    /// reserved, with [`ZeroMode::Unmap`] they are given back. Whole subclusters, where there are
    /// any, are marked in their bitmap. Smaller parts become zero (sub)clusters when the rest reads
    /// as zeros anyway, and are written as data otherwise. The end of the disk counts as the end
    /// of a cluster. An external data file that is a raw image gets the zeros, too.
    ///
    /// # Errors
    /// As for [`write_at`](Image::write_at).
    pub fn write_zeroes_at(&self, offset: u64, len: u64, mode: ZeroMode) -> Result<()> {
        self.check_range(offset, len)?;
        let writer = self.writer()?;
        for (mut at, end) in self.zero_pieces(offset, offset + len) {
            while at < end {
                self.relieve()?;
                let step = (HELD_BYTES_MAX - at % HELD_BYTES_MAX).min(end - at);
                for (start, end) in self.marking(self.zero_held(writer, at, step, mode))? {
                    self.write_zero_bytes(start, end)?;
                }
                at += step;
            }
        }
        Ok(())
    }

    /// The parts of a range that are zeroed one after the other. Whoever has to write zeros into a
    /// part of a subcluster may have to move its cluster; the whole subclusters behind it are only
    /// marked after that, or the move would have to copy zeros.
    fn zero_pieces(&self, start: u64, end: u64) -> SmallVec<[(u64, u64); 3]> {
        if !self.dialect.has_subclusters() {
            return smallvec![(start, end)];
        }
        let unit = self.geometry().subcluster_bytes();
        let head = start.next_multiple_of(unit).min(end);
        let tail = (end - end % unit).max(head);
        smallvec![(start, head), (head, tail), (tail, end)]
    }

    /// Zeros by metadata what can be, and returns the ranges that need data.
    fn zero_held(
        &self,
        writer: &Writer,
        offset: u64,
        len: u64,
        mode: ZeroMode,
    ) -> Result<Vec<(u64, u64)>> {
        let geometry = self.geometry();
        let start = geometry.cluster_start(offset);
        let end = geometry.cluster_start(offset + len - 1) + geometry.cluster_bytes();
        let _held = self.in_flight.hold(start, end);
        let _pin = self.pins.pin();
        let mut data: Vec<(u64, u64)> = Vec::new();
        for touched in self.touched(offset, len) {
            // Even where the entry says zeros already: a power cut may have left bytes of a write
            // behind it that was never published.
            self.zero_data_file(touched, mode)?;
            for (start, end) in self.zero_cluster(writer, touched, mode)? {
                match data.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => data.push((start, end)),
                }
            }
        }
        Ok(data)
    }

    /// Zeros one touched cluster by metadata as far as that goes; returns what needs data.
    fn zero_cluster(&self, writer: &Writer, touched: Touched, mode: ZeroMode) -> Result<NeedData> {
        let guest = GuestOffset::new(touched.cluster);
        let mapping = self.mapping(guest)?;
        let cluster = self.cluster_type(guest, mapping)?;
        let all: NeedData = smallvec![(touched.start, touched.end)];
        if !self.is_whole(touched) {
            if self.dialect.has_subclusters() {
                return self.zero_subclusters(writer, touched, mapping);
            }
            match cluster {
                // All of it reads as zeros: its space may go.
                ClusterType::ZeroAllocated { .. } if mode == ZeroMode::Unmap => {}
                // Reads as zeros already, and its rest must keep what it has: zeros too.
                ClusterType::ZeroPlain => return Ok(NeedData::new()),
                ClusterType::ZeroAllocated { .. } if mode == ZeroMode::Keep => {
                    return Ok(NeedData::new());
                }
                // All of it is zeros, so all of it can be given back.
                ClusterType::ZeroAllocated { .. } => {}
                ClusterType::Unallocated if self.rest_is_zero(touched)? => {}
                _ => return Ok(all),
            }
        }
        let Some(new) = self.zero_mapping(mapping, cluster, mode) else {
            return Ok(all);
        };
        if new != mapping {
            self.change_mapping(writer, touched, cluster, new, mode)?;
        }
        Ok(NeedData::new())
    }

    /// The entry of a zeroed cluster. Version 2 has no zero flag: without anything below, no
    /// mapping means zeros; over a backing file only data does, as in the reference
    /// implementation, even where zeros lie below.
    fn zero_mapping(
        &self,
        mapping: Mapping,
        cluster: ClusterType,
        mode: ZeroMode,
    ) -> Option<Mapping> {
        zeroed_mapping(self.dialect, mapping, cluster, mode)
            .or_else(|| (!self.has_backing()).then_some(Mapping::UNALLOCATED))
    }

    /// Publishes an entry under which the touched bytes read as zeros; host clusters it no longer
    /// refers to are given back. A data file that is a raw image holds the zeros already.
    pub(crate) fn change_mapping(
        &self,
        writer: &Writer,
        touched: Touched,
        old: ClusterType,
        new: Mapping,
        mode: ZeroMode,
    ) -> Result<()> {
        let guest = GuestOffset::new(touched.cluster);
        let old_run = referenced(&writer.allocator, self, old);
        // Also where it keeps its clusters: an entry that leads to metadata leads nowhere good.
        self.guard_freed(writer, old_run)?;
        let freed = old_run.filter(|_| new.entry.host_offset().get() == 0);
        let slice = self.slice_for_change(writer, guest)?;
        let place = self.slice_place(guest);
        self.slices.publish(place.number, &slice, place.index, new);
        if freed.is_some() {
            writer.allocator.unpublish(freed.into_iter(), true);
        }
        if mode == ZeroMode::Unmap {
            self.note_data_hole(touched, old);
        }
        Ok(())
    }

    /// Whether a write covers its cluster as far as the disk reaches.
    pub(crate) fn is_whole(&self, touched: Touched) -> bool {
        let end = touched.cluster.saturating_add(self.geometry().cluster_bytes());
        touched.start == touched.cluster && touched.end >= end.min(self.virtual_size())
    }

    /// Whether the bytes of an unallocated cluster outside the touched ones are known zeros.
    fn rest_is_zero(&self, touched: Touched) -> Result<bool> {
        let end = touched.cluster.saturating_add(self.geometry().cluster_bytes());
        let end = end.min(self.virtual_size());
        let (head, tail) = (touched.start - touched.cluster, end.saturating_sub(touched.end));
        Ok((head == 0 || self.below_is_zero(GuestOffset::new(touched.cluster), head)?)
            && (tail == 0 || self.below_is_zero(GuestOffset::new(touched.end), tail)?))
    }

    pub(crate) fn write_zero_bytes(&self, start: u64, end: u64) -> Result<()> {
        let zeros = vec![0; ZERO_BYTES.min((end - start) as usize)];
        let mut at = start;
        while at < end {
            let step = (end - at).min(zeros.len() as u64);
            self.write_at(at, &zeros[..step as usize])?;
            at += step;
        }
        Ok(())
    }
}
