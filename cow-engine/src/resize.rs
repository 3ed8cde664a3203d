//! Resizing: the disk grows or shrinks, as one change that happens or does not.
//!
//! What the guest sees switches with one write of eight bytes in the header. A disk that grows has
//! everything ready before that write: a table that reaches far enough, zeros over whatever a
//! longer backing file or an earlier, larger disk left there, and the clusters that were asked for
//! in advance. A disk that shrinks is cleared behind its new end after that write. Power cuts in
//! between leave the old disk or the new one, and at worst clusters that are kept in vain.

mod cut;
mod data_file;
mod decide;
mod grow;
mod l1;
mod map_ahead;
mod plan;
mod refusal;
mod shrink;
mod tail;
mod trim;

pub use plan::{ResizePlan, ResizeStep};
pub use refusal::ResizeRefusal;

use qcow2_format::FieldUpdate;

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::preallocation::Preallocation;

/// How a disk is to be resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResizeOptions {
    pub(crate) shrink: bool,
    pub(crate) preallocation: Preallocation,
}

impl ResizeOptions {
    /// Growth without preallocation; a smaller size is refused.
    #[must_use]
    pub const fn new() -> Self {
        Self { shrink: false, preallocation: Preallocation::Off }
    }

    /// Whether a smaller size is accepted, which deletes all data behind it.
    #[must_use]
    pub const fn shrink(mut self, allowed: bool) -> Self {
        self.shrink = allowed;
        self
    }

    /// How much of the area that the disk grows by is prepared.
    #[must_use]
    pub const fn preallocation(mut self, preallocation: Preallocation) -> Self {
        self.preallocation = preallocation;
        self
    }

    /// Whether a smaller size is accepted.
    #[must_use]
    pub const fn allows_shrinking(self) -> bool {
        self.shrink
    }

    /// How much of the new area is prepared.
    #[must_use]
    pub const fn get_preallocation(self) -> Preallocation {
        self.preallocation
    }
}

impl Image {
    /// Gives the disk another size, in bytes. Everything written before is durable afterwards, and
    /// so is the new size.
    ///
    /// New area reads as zeros, whatever lies below it in a backing file and whatever was there
    /// before the disk was cut. The host space of area that is cut off is given back.
    ///
    /// # Errors
    /// [`Error::Resize`] when the size or the options are not possible; nothing has changed then.
    /// When the host fails, the disk has its old size, or, if it was to shrink, possibly the new one;
    /// [`virtual_size`](Image::virtual_size) says which.
    pub fn resize(&mut self, size: u64, options: ResizeOptions) -> Result<()> {
        let resized = self.resize_as_planned(size, options);
        self.marking(resized)
    }

    fn resize_as_planned(&mut self, size: u64, options: ResizeOptions) -> Result<()> {
        let plan = self.plan_resize(size, options)?;
        if plan.steps().is_empty() {
            return self.flush();
        }
        if plan.to() > plan.from() {
            self.grow(&plan)?;
        } else {
            self.cut_off(&plan)?;
        }
        self.flush_all()
    }

    /// Writes a field of the header, durably. After a failure nobody knows which value it has: the
    /// image is given up.
    fn write_header(&self, update: &FieldUpdate) -> Result<()> {
        self.poison.check()?;
        self.poison.guarding(|| {
            self.storage
                .write_at(update.offset(), update.bytes())
                .map_err(Error::storage(Purpose::Header))?;
            self.storage.sync().map_err(Error::storage(Purpose::Sync))
        })
    }

    /// The moment of truth: the guest sees the new size from here on.
    fn switch_size(&mut self, size: u64) -> Result<()> {
        let header = self.header.clone().with_virtual_size(size)?;
        self.write_header(&FieldUpdate::virtual_size(size))?;
        self.header = header;
        Ok(())
    }

    /// Runs `work` as if the disk had another size, one that the L1 table covers. Nobody else uses
    /// the image, and the disk knows nothing of it.
    pub(crate) fn as_if_sized<T>(
        &mut self,
        size: u64,
        work: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let as_if = self.header.clone().with_virtual_size(size)?;
        let header = std::mem::replace(&mut self.header, as_if);
        let result = work(self);
        self.header = header;
        result
    }
}
