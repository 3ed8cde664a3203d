//! Shrinking: the disk ends earlier, then what lies behind its end is given up.

use super::{ResizePlan, ResizeStep};
use crate::error::{Error, Result};
use crate::image::Image;

impl Image {
    /// Carries out a plan that makes the disk smaller.
    pub(super) fn cut_off(&mut self, plan: &ResizePlan) -> Result<()> {
        for step in plan.steps() {
            match *step {
                ResizeStep::SwitchSize { bytes } => self.switch_size(bytes)?,
                ResizeStep::ZeroTail { guest, .. } => self.zero_tail(guest.get())?,
                ResizeStep::Cut { guest } => self.cut(guest.get())?,
                ResizeStep::CutDataFile { bytes, zeros_to } => {
                    self.cut_data_file(bytes, zeros_to)?;
                }
                ResizeStep::TrimFile => self.trim_file()?,
                ResizeStep::MoveL1Table { .. }
                | ResizeStep::MapAhead { .. }
                | ResizeStep::ExtendDataFile { .. }
                | ResizeStep::HideBacking { .. } => {
                    return Err(Error::Plan { reason: "a disk that shrinks needs nothing new" });
                }
            }
        }
        Ok(())
    }
}
