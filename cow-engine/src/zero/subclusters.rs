//! Zeros in a part of a cluster that has subclusters: a bit each, where that is the truth.

use core::ops::Range;

use cluster_map::{ClusterType, Mapping, SubclusterType, Subclusters, ZeroMode, zeroed_bitmap};
use qcow2_format::GuestOffset;

use super::NeedData;
use crate::error::Result;
use crate::image::{Image, Writer};
use crate::write::Touched;

impl Image {
    /// Zeros part of a cluster, subcluster by subcluster; returns what needs data. The cluster
    /// keeps its host space.
    pub(super) fn zero_subclusters(
        &self,
        writer: &Writer,
        touched: Touched,
        mapping: Mapping,
    ) -> Result<NeedData> {
        let guest = GuestOffset::new(touched.cluster);
        let all = Subclusters::classify(self.dialect, guest, mapping)?;
        let mut data = NeedData::new();
        if let ClusterType::Compressed(_) = all.cluster() {
            data.push((touched.start, touched.end));
            return Ok(data);
        }
        let bytes = self.geometry().subcluster_bytes();
        let index = |at: u64| ((at - touched.cluster) / bytes) as u32;
        let mut zeroed = index(touched.start)..index(touched.end - 1) + 1;
        for edge in [zeroed.start, zeroed.end - 1] {
            let part = self.part_of(touched, edge);
            if zeroed.contains(&edge) && !self.zeroes_as_a_whole(&all, edge, touched)? {
                if edge == zeroed.start {
                    zeroed.start += 1;
                } else {
                    zeroed.end -= 1;
                }
                data.push((part.start, part.end));
            }
        }
        let bitmap = zeroed_bitmap(mapping.bitmap, zeroed.clone());
        let new = Mapping { bitmap, ..mapping };
        if !zeroed.is_empty() && new != mapping {
            let start = self.part_of(touched, zeroed.start).start;
            let end = self.part_of(touched, zeroed.end - 1).end;
            let zeroed = Touched { start, end, ..touched };
            self.change_mapping(writer, zeroed, all.cluster(), new, ZeroMode::Keep)?;
        }
        Ok(data)
    }

    /// The touched bytes of a subcluster, as guest bytes.
    fn part_of(&self, touched: Touched, index: u32) -> Range<u64> {
        let bytes = self.geometry().subcluster_bytes();
        let start = touched.cluster + u64::from(index) * bytes;
        start.max(touched.start)..(start + bytes).min(touched.end)
    }

    /// Whether a subcluster of which the touched bytes become zeros is then all zeros: because
    /// all of it is touched, or the rest reads as zeros and holds no data.
    fn zeroes_as_a_whole(&self, all: &Subclusters, index: u32, touched: Touched) -> Result<bool> {
        let bytes = self.geometry().subcluster_bytes();
        let start = touched.cluster + u64::from(index) * bytes;
        // What lies past the end of the disk is nobody's.
        let end = (start + bytes).min(self.virtual_size());
        let part = self.part_of(touched, index);
        if part.start == start && part.end >= end {
            return Ok(true);
        }
        match all.kind(index) {
            SubclusterType::ZeroPlain | SubclusterType::ZeroAllocated { .. } => Ok(true),
            SubclusterType::UnallocatedPlain | SubclusterType::UnallocatedAllocated { .. } => {
                let zeros = |from: u64, to: u64| -> Result<bool> {
                    Ok(from >= to || self.below_is_zero(GuestOffset::new(from), to - from)?)
                };
                Ok(zeros(start, part.start)? && zeros(part.end, end)?)
            }
            SubclusterType::Normal { .. } | SubclusterType::Compressed(_) => Ok(false),
        }
    }
}
