//! Growing: everything is made ready behind the end of the disk, then the disk ends later.

use super::{ResizePlan, ResizeStep};
use crate::error::Result;
use crate::image::Image;

impl Image {
    /// Carries out a plan that makes the disk larger.
    pub(super) fn grow(&mut self, plan: &ResizePlan) -> Result<()> {
        for step in plan.steps() {
            let done = self.grow_by_step(plan, *step);
            if done.is_err() && self.virtual_size() == plan.from() {
                self.undo_growth(plan);
            }
            done?;
        }
        Ok(())
    }

    fn grow_by_step(&mut self, plan: &ResizePlan, step: ResizeStep) -> Result<()> {
        match step {
            ResizeStep::Cut { guest } => self.cut(guest.get()),
            ResizeStep::ZeroTail { guest, .. } => self.zero_tail(guest.get()),
            ResizeStep::MoveL1Table { to, .. } => self.move_l1_table(to),
            ResizeStep::MapAhead { guest, len, how } => self.as_if_sized(plan.to(), |image| {
                image.map_ahead(guest.get(), guest.get() + len, how)?;
                image.flush_all()
            }),
            ResizeStep::HideBacking { guest, len } => self.as_if_sized(plan.to(), |image| {
                image.write_zeroes_at(guest.get(), len, cluster_map::ZeroMode::Keep)?;
                image.flush_all()
            }),
            ResizeStep::CutDataFile { bytes, zeros_to } => self.cut_data_file(bytes, zeros_to),
            ResizeStep::ExtendDataFile { bytes } => self.extend_data_file(bytes),
            ResizeStep::SwitchSize { bytes } => self.switch_size(bytes),
            ResizeStep::TrimFile => self.trim_file(),
        }
    }

    /// Gives back what was mapped ahead of a growth that failed. The disk is as it was either way;
    /// what cannot be given back now is when it grows the next time.
    fn undo_growth(&mut self, plan: &ResizePlan) {
        let start = plan.from().next_multiple_of(self.geometry().cluster_bytes());
        let _ = self.flush_all().and_then(|()| self.cut(start)).and_then(|()| self.trim_file());
    }
}
