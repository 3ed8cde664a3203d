//! Expanding: zeros that are said by entries become zeros that any reader knows: no mapping where
//! nothing lies below, data elsewhere. Version 2 has no other.

use cluster_map::{Mapping, RunKind, ZeroMode};
use qcow2_format::GuestOffset;

use crate::error::{Error, Result};
use crate::image::{Image, Writer};
use crate::zero::HELD_BYTES_MAX;

impl Image {
    /// Leaves no zero cluster in the active tables; the disk reads as before. `report` is told how
    /// many guest bytes are behind.
    ///
    /// # Errors
    /// An image with subclusters or an external data file, or as for
    /// [`write_at`](Image::write_at).
    pub fn expand_zeroes(&self, report: &mut dyn FnMut(u64)) -> Result<()> {
        let writer = self.writer()?;
        if self.dialect.has_subclusters() || self.data_file.is_some() {
            let allowed = "an image without subclusters and external data file";
            return Err(Error::Option {
                name: "expand_zeroes",
                found: "an image with one of them".into(),
                allowed,
            });
        }
        let (mut at, end) = (0, self.virtual_size());
        while at < end {
            self.relieve()?;
            let step = (HELD_BYTES_MAX - at % HELD_BYTES_MAX).min(end - at);
            let Some(run) = self.first_run(at, step)? else { break };
            if let RunKind::Zero { .. } = run.kind {
                match self.has_backing() {
                    true => self.write_zero_bytes(at, at + run.len)?,
                    false => self.marking(self.unmap_held(writer, at, run.len))?,
                }
            }
            at += run.len;
            report(at);
        }
        Ok(())
    }

    /// Takes the mapping away from clusters that read as zeros.
    fn unmap_held(&self, writer: &Writer, offset: u64, len: u64) -> Result<()> {
        let geometry = self.geometry();
        let start = geometry.cluster_start(offset);
        let end = geometry.cluster_start(offset + len - 1) + geometry.cluster_bytes();
        let _held = self.in_flight.hold(start, end);
        let _pin = self.pins.pin();
        for touched in self.touched(offset, len) {
            let guest = GuestOffset::new(touched.cluster);
            let cluster = self.cluster_type(guest, self.mapping(guest)?)?;
            let new = Mapping::UNALLOCATED;
            self.change_mapping(writer, touched, cluster, new, ZeroMode::Unmap)?;
        }
        Ok(())
    }
}
