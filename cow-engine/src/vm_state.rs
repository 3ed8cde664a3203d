//! The state of a virtual machine: bytes behind the end of the disk, from the first L2 table on that
//! maps nothing of it. Nothing of a backing file shows there.

use cluster_map::RunKind;

use crate::error::{Error, Result};
use crate::image::Image;

impl Image {
    /// Guest offset at which the state of a virtual machine begins.
    #[must_use]
    pub fn vm_state_offset(&self) -> u64 {
        let geometry = self.geometry();
        geometry.l1_entries_for(self.virtual_size()).saturating_mul(geometry.l2_table_guest_bytes())
    }

    /// Reads from the state; what was never written is zeros.
    ///
    /// # Errors
    /// The range lies behind everything that can be mapped, or as for
    /// [`read_at`](Image::read_at).
    pub fn read_vm_state(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = self.vm_state_range(offset, buf.len() as u64)?.start;
        buf.fill(0);
        let covered = u64::from(self.header.l1_entry_count())
            .saturating_mul(self.geometry().l2_table_guest_bytes());
        let known = covered.saturating_sub(start).min(buf.len() as u64) as usize;
        let Some(buf) = buf.get_mut(..known).filter(|buf| !buf.is_empty()) else { return Ok(()) };
        self.as_if_sized(covered, |image| {
            let mut rest = buf;
            for run in image.plan_read(start, known as u64)?.runs() {
                let (part, behind) = rest.split_at_mut((run.len as usize).min(rest.len()));
                rest = behind;
                match run.kind {
                    RunKind::Below { .. } => {}
                    _ => image.read_run(run, part)?,
                }
            }
            Ok(())
        })
    }

    /// Writes to the state, which is durable afterwards. The L1 table grows as far as it must.
    ///
    /// # Errors
    /// The range lies behind everything that can be mapped, the image has an external data file, or
    /// as for [`write_at`](Image::write_at).
    pub fn write_vm_state(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        self.writer()?;
        if self.data_file.is_some() {
            let reason = "an external data file has no room for the state of a virtual machine";
            return Err(Error::Plan { reason });
        }
        let written = self.write_state(offset, buf);
        self.marking(written)
    }

    fn write_state(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        let geometry = self.geometry();
        let range = self.vm_state_range(offset, buf.len() as u64)?;
        if range.is_empty() {
            return Ok(());
        }
        // Whole clusters: a part would bring the bytes around it from below.
        let start = geometry.cluster_start(range.start);
        let end = range.end.next_multiple_of(geometry.cluster_bytes());
        let mut bytes = vec![0; (end - start) as usize];
        self.read_vm_state(start - self.vm_state_offset(), &mut bytes)?;
        let at = (range.start - start) as usize;
        bytes[at..at + buf.len()].copy_from_slice(buf);
        let entries = geometry.l1_entries_for(end);
        if entries > u64::from(self.header.l1_entry_count()) {
            self.flush_all()?;
            self.move_l1_table(u32::try_from(entries).unwrap_or(u32::MAX))?;
        }
        self.as_if_sized(end, |image| {
            image.write_at(start, &bytes)?;
            image.flush_all()
        })
    }

    /// A range of the state as guest offsets.
    fn vm_state_range(&self, offset: u64, len: u64) -> Result<core::ops::Range<u64>> {
        let size = self.geometry().virtual_size_max();
        let start = self.vm_state_offset().checked_add(offset);
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        range.filter(|range| range.end <= size).ok_or(Error::OutOfRange { offset, len, size })
    }
}
