//! Resizing the disk of a chain: that of its top layer, with an eye on what lies below.

use cow_engine::{Preallocation, ResizeOptions, ResizePlan, ResizeRefusal};

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::layer::Disk;

impl Chain {
    /// Gives the disk another size, in bytes: the top layer gets it, the others stay as they are.
    /// Everything written before is durable afterwards, and so is the new size.
    ///
    /// New area reads as zeros, whatever lies below it.
    ///
    /// # Errors
    /// [`Error::Image`] with a [`ResizeRefusal`] or [`Error::RawPreallocation`] when the size or the
    /// options are not possible; nothing has changed then. Otherwise the host failed.
    pub fn resize(&mut self, size: u64, options: ResizeOptions) -> Result<()> {
        self.check_resize(size, options)?;
        // Whoever holds the chain mutably holds its top, too.
        let Some(top) = self.top_mut() else { return Err(Error::ReadOnly) };
        let resized = match top.disk_mut() {
            Disk::Raw(raw) => raw.resize(size, options.get_preallocation()).map_err(Ok),
            Disk::Qcow2(image) => image.resize(size, options).map_err(Err),
        };
        resized.map_err(|failure| match failure {
            Ok(source) => top.storage_error(source),
            Err(source) => top.image_error(source),
        })
    }

    /// Decides a resize without carrying it out; `None` for a raw top layer, where the file's
    /// length is all there is to it.
    ///
    /// # Errors
    /// As for [`resize`](Chain::resize).
    pub fn plan_resize(&mut self, size: u64, options: ResizeOptions) -> Result<Option<ResizePlan>> {
        self.check_resize(size, options)?;
        let Some(top) = self.top_mut() else { return Err(Error::ReadOnly) };
        let planned = match top.disk_mut() {
            Disk::Raw(_) => return Ok(None),
            Disk::Qcow2(image) => image.plan_resize(size, options),
        };
        planned.map(Some).map_err(|source| top.image_error(source))
    }

    /// Reads from the state of a virtual machine that the top layer keeps behind its disk.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] when the top layer is raw and keeps none, or the image cannot be read.
    pub fn read_vm_state(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(top) = self.top_mut() else { return Err(Error::ReadOnly) };
        let done = match top.disk_mut() {
            Disk::Raw(_) => return Err(Error::ReadOnly),
            Disk::Qcow2(image) => image.read_vm_state(offset, buf),
        };
        done.map_err(|source| top.image_error(source))
    }

    /// Writes to that state, durably.
    ///
    /// # Errors
    /// As for [`read_vm_state`](Chain::read_vm_state), or the image cannot be written.
    pub fn write_vm_state(&mut self, offset: u64, buf: &[u8]) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        let Some(top) = self.top_mut() else { return Err(Error::ReadOnly) };
        let done = match top.disk_mut() {
            Disk::Raw(_) => return Err(Error::ReadOnly),
            Disk::Qcow2(image) => image.write_vm_state(offset, buf),
        };
        done.map_err(|source| top.image_error(source))
    }

    /// What a raw layer does not check for itself.
    fn check_resize(&self, size: u64, options: ResizeOptions) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if matches!(self.top().disk(), Disk::Qcow2(_)) {
            return Ok(());
        }
        let (present, found) = (self.virtual_size(), options.get_preallocation());
        let refuse = |refusal| Err(self.top().image_error(cow_engine::Error::Resize(refusal)));
        match found {
            Preallocation::Off if size < present && !options.allows_shrinking() => {
                refuse(ResizeRefusal::Shrink { found: size, present })
            }
            Preallocation::Off => Ok(()),
            _ if size <= present => refuse(ResizeRefusal::NothingToPreallocate { found }),
            Preallocation::Metadata => {
                Err(Error::RawPreallocation { layer: self.top().path().to_owned(), found })
            }
            Preallocation::Falloc | Preallocation::Full => Ok(()),
        }
    }
}
