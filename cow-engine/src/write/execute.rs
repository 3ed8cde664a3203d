//! Carrying a write plan out: guest data and the old bytes around it, as few host calls as can be.

use std::io::IoSlice;

use block_io::{AlignedBuffer, StorageExt};
use cluster_map::CowSource;

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::plan::{AllocateRun, CowRange, WritePlan, WriteRun};
use crate::scratch;

/// Most guest bytes between head and tail that are read for nothing, and copied, to save a call.
const BETWEEN_BYTES_MAX: usize = 16 << 10;

/// A run with old bytes on both sides, as one range.
#[derive(Clone, Copy, Debug)]
struct Around {
    all: CowRange,
    /// Bytes before the guest's.
    head: usize,
}

impl Image {
    /// Writes the guest bytes of a plan and copies the old bytes around them.
    ///
    /// For callers that use their own I/O this is the reference of what to do between
    /// [`begin_write`](Image::begin_write) and [`publish`](crate::PendingWrite::publish).
    ///
    /// # Errors
    /// `buf` is not as long as the plan, or the host or the layer below failed. Nothing is
    /// visible yet, except what in-place runs have overwritten.
    pub fn execute(&self, plan: &WritePlan, buf: &[u8]) -> Result<()> {
        if buf.len() as u64 != plan.len() {
            return Err(Error::Plan { reason: "the buffer is not as long as the plan" });
        }
        // CE-5: a flush may have failed since the plan was made.
        self.poison.check()?;
        let mut rest = buf;
        for run in plan.runs() {
            // Run lengths add up to the plan's length.
            let (part, tail) = rest.split_at(run.len() as usize);
            match run {
                WriteRun::InPlace(run) => self
                    .data_storage()
                    .write_at(run.host.get(), part)
                    .map_err(Error::storage(Purpose::Data))?,
                WriteRun::Allocate(run) => self.execute_allocating(run, part)?,
            }
            self.note_data_written();
            rest = tail;
        }
        Ok(())
    }

    /// Head, guest data and tail go out as one write: they are adjacent.
    fn execute_allocating(&self, run: &AllocateRun, data: &[u8]) -> Result<()> {
        if let Some(around) = self.cow_around(run, data)?
            && self.write_around(&around, data)?
        {
            return Ok(());
        }
        let head = self.cow_bytes(run, run.cow_start())?;
        let tail = self.cow_bytes(run, run.cow_end())?;
        let start = match (&head, run.cow_start()) {
            (Some(_), Some(range)) => range.host,
            _ => run.host(),
        };
        let head = head.as_deref().unwrap_or_default();
        let tail = tail.as_deref().unwrap_or_default();
        let parts = [IoSlice::new(head), IoSlice::new(data), IoSlice::new(tail)];
        self.data_storage()
            .write_vectored_at(start.get(), &parts)
            .map_err(Error::storage(Purpose::Data))
    }

    /// Head, tail and the little between them as one range, if their old bytes come from the same
    /// place and are needed: one read then brings both.
    fn cow_around(&self, run: &AllocateRun, data: &[u8]) -> Result<Option<Around>> {
        let (Some(head), Some(tail)) = (run.cow_start(), run.cow_end()) else { return Ok(None) };
        let continuous = match head.source {
            CowSource::Below => true,
            // Two guest clusters may share one host cluster; behind it lies something else.
            CowSource::Host(_) => run.clusters().len() == 1,
            _ => false,
        };
        if data.len() > BETWEEN_BYTES_MAX || head.source != tail.source || !continuous {
            return Ok(None);
        }
        if !self.cow_is_needed(run, &head)? || !self.cow_is_needed(run, &tail)? {
            return Ok(None);
        }
        let len = head.len + data.len() as u64 + tail.len;
        Ok(Some(Around { all: CowRange { len, ..head }, head: head.len as usize }))
    }

    /// Returns whether it did: if the old bytes cannot be read in one go, perhaps they can without
    /// those between, which guests write over because they are bad.
    fn write_around(&self, around: &Around, data: &[u8]) -> Result<bool> {
        let Around { all, head } = *around;
        let storage = self.data_storage();
        scratch::with(storage.alignment(), all.len as usize, |bytes| {
            if self.read_cow(&all, bytes).is_err() {
                return Ok(false);
            }
            match bytes.get_mut(head..head + data.len()) {
                Some(middle) => middle.copy_from_slice(data),
                None => return Err(Error::Plan { reason: "a write leaves its run" }),
            }
            storage.write_at(all.host.get(), bytes).map_err(Error::storage(Purpose::Data))?;
            Ok(true)
        })
    }

    /// The old bytes of a range; `None` when nothing has to be written for it.
    fn cow_bytes(
        &self,
        run: &AllocateRun,
        range: Option<CowRange>,
    ) -> Result<Option<AlignedBuffer>> {
        let Some(range) = range else { return Ok(None) };
        if !self.cow_is_needed(run, &range)? {
            return Ok(None);
        }
        let alignment = self.data_storage().alignment();
        let mut bytes = AlignedBuffer::zeroed(alignment, range.len as usize);
        self.read_cow(&range, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether the old bytes of a range of a run have to be written at all: not if they are zeros
    /// and the host cluster was never written, so that it reads as zeros already.
    ///
    /// # Errors
    /// The layer below failed.
    pub fn cow_is_needed(&self, run: &AllocateRun, range: &CowRange) -> Result<bool> {
        Ok(!(run.is_fresh() && self.cow_reads_as_zeros(range)?))
    }

    /// Fills `buf` with the old bytes that a [`CowRange`] stands for.
    ///
    /// # Errors
    /// The old cluster is damaged, or the host or the layer below failed.
    pub fn read_cow(&self, range: &CowRange, buf: &mut [u8]) -> Result<()> {
        // Past the end of the disk there is nothing to preserve, and stale bytes must not
        // reappear if the disk grows.
        let inside = self.virtual_size().saturating_sub(range.guest.get()).min(range.len);
        let inside = usize::try_from(inside).unwrap_or(buf.len()).min(buf.len());
        let (old, beyond) = buf.split_at_mut(inside);
        beyond.fill(0);
        let skip = self.geometry().offset_in_cluster(range.guest.get());
        match range.source {
            CowSource::Zeros => old.fill(0),
            CowSource::Image => self.read_at(range.guest.get(), old)?,
            CowSource::Below => self.read_below(range.guest, old)?,
            CowSource::Compressed(descriptor) => self.read_compressed(descriptor, skip, old)?,
            CowSource::Host(host) => {
                let at = host.get().saturating_add(skip);
                self.data_storage()
                    .read_zero_filled(at, old)
                    .map_err(Error::storage(Purpose::Cow))?;
            }
        }
        Ok(())
    }

    /// Whether the old bytes are known to be zeros without reading them.
    pub(crate) fn cow_reads_as_zeros(&self, range: &CowRange) -> Result<bool> {
        let inside = self.virtual_size().saturating_sub(range.guest.get()).min(range.len);
        match range.source {
            _ if inside == 0 => Ok(true),
            CowSource::Zeros => Ok(true),
            CowSource::Below => self.below_is_zero(range.guest, inside),
            CowSource::Host(_) | CowSource::Compressed(_) | CowSource::Image => Ok(false),
        }
    }
}
