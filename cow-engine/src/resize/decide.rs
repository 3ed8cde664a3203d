//! Deciding a resize: which steps it takes, from what the tables say.

use qcow2_format::{GuestOffset, Version};

use super::refusal::check_request;
use super::{ResizeOptions, ResizePlan, ResizeRefusal, ResizeStep};
use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::preallocation::Preallocation;

impl Image {
    /// Decides a resize to `size` bytes without carrying it out.
    ///
    /// Everything written before is flushed first. Nobody else may use the image meanwhile: it
    /// looks behind the end of the disk.
    ///
    /// # Errors
    /// As for [`resize`](Image::resize).
    pub fn plan_resize(&mut self, size: u64, options: ResizeOptions) -> Result<ResizePlan> {
        self.writer()?;
        check_request(&self.header, size, options)?;
        let from = self.virtual_size();
        if size == from {
            return Ok(ResizePlan { from, to: size, steps: Vec::new() });
        }
        self.flush_all()?;
        let steps = if size > from {
            self.plan_growth(size, options.preallocation)?
        } else {
            self.plan_shrinking(size)?
        };
        Ok(ResizePlan { from, to: size, steps })
    }

    fn plan_growth(&mut self, to: u64, how: Preallocation) -> Result<Vec<ResizeStep>> {
        let geometry = self.geometry();
        let from = self.virtual_size();
        let cluster_end = from.next_multiple_of(geometry.cluster_bytes());
        if self.backing.is_none() && self.has_backing() {
            return Err(ResizeRefusal::UnknownBacking.into());
        }
        let hidden = self.hidden_below(cluster_end, to)?;
        let mut steps = Vec::new();
        let how = match &self.data_file {
            Some(data) => {
                if data.storage.len().map_err(Error::storage(Purpose::Length))? > from {
                    steps.push(ResizeStep::CutDataFile { bytes: from, zeros_to: to });
                }
                // Every entry of a raw data file exists, so that it can be used alone.
                if data.raw && how == Preallocation::Off { Preallocation::Metadata } else { how }
            }
            None => how,
        };
        if self.has_mapped_from(cluster_end, to)? {
            self.check_cut(cluster_end)?;
            steps.push(ResizeStep::Cut { guest: GuestOffset::new(cluster_end) });
        }
        if self.tail_needs_zeros(from, TailOf::DiskThatGrows)? {
            let len = cluster_end - from;
            steps.push(ResizeStep::ZeroTail { guest: GuestOffset::new(from), len });
        }
        let (present, needed) = (self.header.l1_entry_count(), geometry.l1_entries_for(to));
        if needed > u64::from(present) {
            // The size was compared with the limit of the table.
            let needed = u32::try_from(needed).unwrap_or(u32::MAX);
            steps.push(ResizeStep::MoveL1Table { from: present, to: needed });
        }
        if how != Preallocation::Off {
            let guest = GuestOffset::new(from);
            steps.push(ResizeStep::MapAhead { guest, len: to - from, how });
        }
        if hidden > 0 {
            let guest = GuestOffset::new(cluster_end);
            steps.push(ResizeStep::HideBacking { guest, len: hidden });
        }
        if self.data_file.is_some() {
            steps.push(ResizeStep::ExtendDataFile { bytes: to });
        }
        steps.push(ResizeStep::SwitchSize { bytes: to });
        Ok(steps)
    }

    /// How many bytes from `start`, the first new cluster, have something below them that must not
    /// show, up to the end of a cluster or of the disk.
    fn hidden_below(&self, start: u64, to: u64) -> Result<u64> {
        let backing = self.backing.as_ref().map_or(0, |backing| backing.virtual_size());
        if backing <= start || to <= start {
            return Ok(0);
        }
        if self.header.version() == Version::V2 {
            let present = self.virtual_size();
            return Err(ResizeRefusal::LongerBacking { present, backing }.into());
        }
        let end = backing.checked_next_multiple_of(self.geometry().cluster_bytes());
        Ok(end.unwrap_or(u64::MAX).min(to) - start)
    }

    fn plan_shrinking(&mut self, to: u64) -> Result<Vec<ResizeStep>> {
        let cluster_end = to.next_multiple_of(self.geometry().cluster_bytes());
        let mut steps = vec![ResizeStep::SwitchSize { bytes: to }];
        // A data file ends with the disk.
        if self.data_file.is_none() && self.tail_needs_zeros(to, TailOf::DiskThatShrinks)? {
            let len = cluster_end - to;
            steps.push(ResizeStep::ZeroTail { guest: GuestOffset::new(to), len });
        }
        self.check_cut(cluster_end)?;
        steps.push(ResizeStep::Cut { guest: GuestOffset::new(cluster_end) });
        if self.data_file.is_some() {
            steps.push(ResizeStep::CutDataFile { bytes: to, zeros_to: cluster_end });
        }
        steps.push(ResizeStep::TrimFile);
        Ok(steps)
    }
}

/// For whom the rest of the last cluster has to be zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TailOf {
    /// It becomes visible now, with whatever a backing file has there.
    DiskThatGrows,
    /// It becomes visible if the disk grows again; what is below is then hidden by whoever does it.
    DiskThatShrinks,
}

impl From<ResizeRefusal> for Error {
    fn from(refusal: ResizeRefusal) -> Self {
        Self::Resize(refusal)
    }
}
