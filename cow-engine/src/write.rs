//! Writing: decide, then do.
//!
//! `begin_write` decides: it looks entries up, reserves host clusters and returns the plan.
//! Whoever holds the plan writes the guest data and copies the old bytes around it; `publish`
//! then makes the new entries visible. [`Image::write_at`] is these three in a row.

mod begin;
mod compressed;
mod execute;
mod pending;

pub(crate) use begin::Touched;
pub use pending::PendingWrite;
pub(crate) use pending::referenced;

use crate::error::{Error, Purpose, Result};
use crate::image::{Image, Writer};

/// Most guest bytes that one plan covers when a long write is cut into pieces: bounds the memory
/// of a plan and how long its clusters stay in flight.
const PLAN_BYTES_MAX: u64 = 16 << 20;

impl Image {
    /// Writes `buf` at guest byte `offset`, copying old bytes from below where clusters are new.
    ///
    /// When it returns, reads see the bytes; after the next successful [`flush`](Image::flush)
    /// they survive a power cut.
    ///
    /// # Errors
    /// The range lies outside the disk, the image is read-only or given up, a table is damaged,
    /// or the host or the layer below failed. Clusters of the range then hold old or new bytes;
    /// everything else is unchanged.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        let writer = self.writer()?;
        if self.overwrite_in_cluster(writer, offset, buf)? {
            return Ok(());
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let to_boundary = PLAN_BYTES_MAX - at % PLAN_BYTES_MAX;
            let step = to_boundary.min(rest.len() as u64);
            let (part, tail) = rest.split_at(step as usize);
            let pending = self.begin_write(at, step)?;
            self.execute(pending.plan(), part)?;
            pending.publish()?;
            at += step;
            rest = tail;
        }
        Ok(())
    }

    /// The most frequent write, a small one where this image has its own cluster already, without a
    /// plan. Returns whether it was one.
    fn overwrite_in_cluster(&self, writer: &Writer, offset: u64, buf: &[u8]) -> Result<bool> {
        if self.keeps_a_raw_image() {
            return Ok(false);
        }
        let _pin = self.pins.pin();
        let place = self.place_in_cluster(writer, offset, buf.len() as u64);
        let Some(host) = self.marking(place)? else { return Ok(false) };
        let written = self.data_storage().write_at(host.get(), buf);
        written.map_err(Error::storage(Purpose::Data))?;
        self.note_data_written();
        // Given up meanwhile? Then nobody may believe that this can still be flushed.
        self.writer()?;
        Ok(true)
    }
}
