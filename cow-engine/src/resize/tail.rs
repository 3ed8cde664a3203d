//! The rest of the last cluster, behind the end of the disk: nobody sees it until the disk grows.

use cluster_map::RunKind;

use super::decide::TailOf;
use crate::error::Result;
use crate::image::Image;

impl Image {
    /// Whether the rest of the cluster in which a disk of `size` bytes ends shows anything but
    /// zeros. Other writers leave there what a larger disk had.
    pub(super) fn tail_needs_zeros(&mut self, size: u64, whose: TailOf) -> Result<bool> {
        let end = size.next_multiple_of(self.geometry().cluster_bytes());
        if end == size {
            return Ok(false);
        }
        let seen = self.virtual_size().max(end);
        self.as_if_sized(seen, |image| {
            let plan = image.plan_read(size, end - size)?;
            for run in plan.runs() {
                let skip = match run.kind {
                    RunKind::Zero { .. } => true,
                    RunKind::Below { .. } => whose == TailOf::DiskThatShrinks,
                    RunKind::Data { .. } | RunKind::Compressed { .. } => false,
                };
                // A run inside one cluster: at most 2 MiB.
                let mut bytes = vec![0; if skip { 0 } else { run.len as usize }];
                image.read_run(run, &mut bytes)?;
                if bytes.iter().any(|&byte| byte != 0) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Makes the rest of the cluster in which a disk of `size` bytes ends zeros, by data or by
    /// metadata, whatever the cluster is.
    pub(super) fn zero_tail(&mut self, size: u64) -> Result<()> {
        let end = size.next_multiple_of(self.geometry().cluster_bytes());
        let seen = self.virtual_size().max(end);
        self.as_if_sized(seen, |image| {
            image.write_zeroes_at(size, end - size, cluster_map::ZeroMode::Keep)?;
            image.flush_all()
        })
    }
}
