//! Reading: each run as soon as it is known, from where its entry says.

use std::ops::ControlFlow;

use block_io::StorageExt;
use cluster_map::{Run, RunKind};
use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset};

use crate::error::{Error, Purpose, Result};
use crate::image::Image;

impl Image {
    /// Fills `buf` with guest bytes from `offset` on, asking the backing file where this image
    /// owns nothing.
    ///
    /// # Errors
    /// The range lies outside the disk, a table or compressed cluster is damaged, or the host or
    /// the layer below failed. `buf` is then unspecified.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        // The pin first: what is looked up afterwards stays protected. Where nobody writes,
        // nothing is given up.
        let _pin = self.writer.is_some().then(|| self.pins.pin());
        self.read_runs(offset, buf)
    }

    /// Carries each run out as soon as it is known: nothing is kept of the plan.
    fn read_runs(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len() as u64;
        let (mut rest, mut done) = (buf, Ok(()));
        let walked = self.walk_runs(offset, len, |run| {
            // Run lengths add up to the buffer's length.
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(run.len as usize);
            rest = tail;
            done = self.read_run(run, part);
            Ok(if done.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        });
        // Tables that make no sense are damage; data that cannot be read is not.
        self.marking(walked)?;
        done
    }

    /// Fills `buf` with the guest bytes of one run of a [`ReadPlan`](crate::ReadPlan).
    ///
    /// # Errors
    /// As for [`read_at`](Image::read_at).
    pub fn read_run(&self, run: &Run, buf: &mut [u8]) -> Result<()> {
        match run.kind {
            RunKind::Zero { .. } => {
                buf.fill(0);
                Ok(())
            }
            RunKind::Data { host } => self.read_data(run.guest, host, buf),
            RunKind::Compressed { descriptor, skip } => self.read_compressed(descriptor, skip, buf),
            RunKind::Below { .. } => self.read_below(run.guest, buf),
        }
    }

    /// Guest bytes that the image keeps as they are.
    fn read_data(&self, guest: GuestOffset, host: HostOffset, buf: &mut [u8]) -> Result<()> {
        let storage = self.data_storage();
        let read =
            storage.read_zero_filled(host.get(), buf).map_err(Error::storage(Purpose::Data))?;
        if read == buf.len() {
            return Ok(());
        }
        // The last cluster of a file may be cut off where only zeros follow. A whole cluster that
        // is not there was there once.
        let len = storage.len().map_err(Error::storage(Purpose::Length))?;
        let cluster_bytes = self.geometry().cluster_bytes();
        let lost =
            len.next_multiple_of(cluster_bytes).max(self.geometry().cluster_start(host.get()));
        match lost.checked_sub(host.get()) {
            Some(skip) if skip >= buf.len() as u64 => Ok(()),
            skip => Err(Error::LostCluster {
                guest: GuestOffset::new(guest.get().saturating_add(skip.unwrap_or(0))),
                host: HostOffset::new(lost),
                file_bytes: len,
            }),
        }
    }

    /// Guest bytes of the layer below; zeros without one.
    pub(crate) fn read_below(&self, guest: GuestOffset, buf: &mut [u8]) -> Result<()> {
        match &self.backing {
            None => {
                buf.fill(0);
                Ok(())
            }
            Some(backing) => {
                backing.read_at(guest.get(), buf).map_err(|source| Error::Below { guest, source })
            }
        }
    }

    /// Whether anything lies below: given by the caller, or only named by the header.
    pub(crate) fn has_backing(&self) -> bool {
        self.backing.is_some() || self.header.backing_name().is_some_and(|name| !name.is_empty())
    }

    /// Whether a range of the layer below is known to read as zeros.
    pub(crate) fn below_is_zero(&self, guest: GuestOffset, len: u64) -> Result<bool> {
        let Some(backing) = &self.backing else { return Ok(!self.has_backing()) };
        if guest.get() >= backing.virtual_size() {
            return Ok(true);
        }
        backing.reads_as_zeros(guest.get(), len).map_err(|source| Error::Below { guest, source })
    }

    /// Part of a compressed cluster, from `skip` bytes into it.
    pub(crate) fn read_compressed(
        &self,
        descriptor: CompressedDescriptor,
        skip: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let cluster = self.decompressed.get_or_insert(descriptor, || self.inflate(descriptor))?;
        let skip = skip as usize;
        match cluster.get(skip..skip + buf.len()) {
            Some(part) => buf.copy_from_slice(part),
            None => return Err(Error::Plan { reason: "a run leaves its compressed cluster" }),
        }
        Ok(())
    }
}
