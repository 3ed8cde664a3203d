//! Discarding: the guest gives whole clusters up, and their host space is given back once nothing
//! on disk points there any more and nobody uses them.

use cluster_map::{ClusterType, Mapping, ZeroMode};
use qcow2_format::GuestOffset;

use crate::error::Result;
use crate::image::{Image, Writer};
use crate::write::Touched;
use crate::zero::HELD_BYTES_MAX;

impl Image {
    /// Gives up what the guest keeps in a range, which then reads as zeros.
    ///
    /// Only whole clusters are discarded (the end of the disk counts as the end of one); parts
    /// keep their bytes. Nothing of a backing file reappears: over one, a version 3 image keeps a
    /// zero cluster, and a version 2 image, which has none, ignores the request. Host space is
    /// punched out of the file at the next [`flush`](Image::flush).
    ///
    /// # Errors
    /// As for [`write_at`](Image::write_at).
    pub fn discard_at(&self, offset: u64, len: u64) -> Result<()> {
        self.check_range(offset, len)?;
        let writer = self.writer()?;
        let (mut at, end) = (offset, offset + len);
        while at < end {
            self.relieve()?;
            let step = (HELD_BYTES_MAX - at % HELD_BYTES_MAX).min(end - at);
            self.marking(self.discard_held(writer, at, step))?;
            at += step;
        }
        Ok(())
    }

    fn discard_held(&self, writer: &Writer, offset: u64, len: u64) -> Result<()> {
        let geometry = self.geometry();
        let start = geometry.cluster_start(offset);
        let end = geometry.cluster_start(offset + len - 1) + geometry.cluster_bytes();
        let _held = self.in_flight.hold(start, end);
        let _pin = self.pins.pin();
        for touched in self.touched(offset, len).filter(|touched| self.is_whole(*touched)) {
            self.discard_cluster(writer, touched)?;
        }
        Ok(())
    }

    fn discard_cluster(&self, writer: &Writer, touched: Touched) -> Result<()> {
        let guest = GuestOffset::new(touched.cluster);
        let mapping = self.mapping(guest)?;
        let cluster = self.cluster_type(guest, mapping)?;
        self.zero_data_file(touched, ZeroMode::Unmap)?;
        match self.discarded_mapping(cluster) {
            Some(new) if new != mapping => {
                self.change_mapping(writer, touched, cluster, new, ZeroMode::Unmap)
            }
            _ => Ok(()),
        }
    }

    /// The entry of a discarded cluster; `None` where it must stay as it is.
    fn discarded_mapping(&self, cluster: ClusterType) -> Option<Mapping> {
        let over_backing = self.has_backing();
        match cluster {
            ClusterType::Unallocated if !over_backing => None,
            _ if self.dialect.has_zero_flag() => Some(self.dialect.zero_plain()),
            _ if over_backing => None,
            _ => Some(Mapping::UNALLOCATED),
        }
    }
}
