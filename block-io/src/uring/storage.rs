//! `UringStorage`: a file whose large requests are many at once.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use super::batch::{Batch, ReadRequest, WriteRequest, found};
use super::pool::Pool;
use super::target::Target;
use crate::file::{copy_in, copy_out};
use crate::range::{POSITION_MAX, checked_end, total_len};
use crate::{
    AlignedBuffer, Alignment, Extent, FileId, FileStorage, Lock, Operation, Result, Storage,
};

/// Most bytes copied at once for memory that a direct file does not take: a whole number of blocks,
/// and of pieces of any usual length.
const BOUNCE_BYTES_MAX: usize = 4 << 20;

/// A file or block device whose large requests are cut into pieces that are under way at once, for
/// disks that are only fast when they have much to do.
///
/// A request of one piece has nothing to be under way beside and goes to the host as it is, like
/// everything of a [`FileStorage`]; so do requests that cover a block of a direct file in part.
/// [`read_batch`](UringStorage::read_batch) and
/// [`write_batch`](UringStorage::write_batch) take many small requests at once.
///
/// Every call waits for what it asked for, so buffers are only borrowed. Any number of threads may
/// use it; each has a ring for itself meanwhile.
#[derive(Debug)]
pub struct UringStorage {
    file: Arc<FileStorage>,
    pool: Pool,
    piece_bytes: usize,
}

/// How a [`UringStorage`] cuts and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringOptions {
    depth: u32,
    piece_bytes: usize,
    rings: usize,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { depth: 32, piece_bytes: 128 << 10, rings: 16 }
    }
}

impl UringOptions {
    /// 32 requests of 128 KiB at once for each thread, 16 threads at once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many requests of a thread are with the kernel at once (1 to 4096).
    #[must_use]
    pub const fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// Most bytes of a piece, rounded up to a multiple of 4096.
    #[must_use]
    pub const fn piece_bytes(mut self, bytes: usize) -> Self {
        let bytes = if bytes == 0 { 1 } else { bytes };
        self.piece_bytes = bytes.next_multiple_of(4096);
        self
    }

    /// How many threads have a ring at once (at least one); others wait.
    #[must_use]
    pub const fn rings(mut self, rings: usize) -> Self {
        self.rings = rings;
        self
    }

    /// Takes over a file.
    ///
    /// # Errors
    /// [`Error::NoRing`](crate::Error::NoRing) when the host lacks io_uring, or forbids it;
    /// [`Error::Io`](crate::Error::Io) with `EINVAL` for any other depth. Whoever keeps an `Arc` of
    /// the file uses it without.
    pub fn open(self, file: impl Into<Arc<FileStorage>>) -> Result<UringStorage> {
        let pool = Pool::new(self.depth, self.rings)?;
        let file: Arc<FileStorage> = file.into();
        // A piece of a direct file is whole blocks, however large these are.
        let piece_bytes = self.piece_bytes.next_multiple_of(file.alignment().request() as usize);
        Ok(UringStorage { file, pool, piece_bytes })
    }
}

impl UringStorage {
    /// Takes over a file, with the default options.
    ///
    /// # Errors
    /// As for [`UringOptions::open`].
    pub fn new(file: impl Into<Arc<FileStorage>>) -> Result<Self> {
        UringOptions::new().open(file)
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<FileStorage> {
        &self.file
    }

    /// Fills all buffers of the list, many at once, and returns how many bytes were found for
    /// each: fewer than asked for only where the file ends.
    ///
    /// # Errors
    /// As for [`read_at`](Storage::read_at), of any of them.
    pub fn read_batch(&self, requests: &mut [ReadRequest<'_>]) -> Result<Vec<usize>> {
        let inside = |request: &ReadRequest<'_>| fits_position(request.offset, request.buf.len());
        if requests.iter().all(inside) {
            let mut batch = Batch::of_reads(self.piece_bytes);
            let mut pieces = Vec::with_capacity(requests.len());
            for ReadRequest { offset, buf } in requests.iter_mut() {
                let first = batch.len();
                batch.add_read(*offset, [IoSliceMut::new(buf)].iter_mut());
                pieces.push(first..batch.len());
            }
            if batch.fits(self.file.alignment()) {
                let done = batch.run(&mut self.pool.lease(), &self.target())?;
                return Ok(pieces.into_iter().map(|range| found(&done[range]) as usize).collect());
            }
        }
        requests.iter_mut().map(|request| self.file.read_at(request.offset, request.buf)).collect()
    }

    /// Writes all buffers of the list, many at once. Overlapping ones end in either order.
    ///
    /// # Errors
    /// As for [`write_at`](Storage::write_at), of any of them; any part may have been written.
    pub fn write_batch(&self, requests: &[WriteRequest<'_>]) -> Result<()> {
        self.file.writable(Operation::Write)?;
        let mut end = 0;
        let mut batch = Batch::of_writes(self.piece_bytes);
        for WriteRequest { offset, buf } in requests {
            if !buf.is_empty() {
                end = checked_end(Operation::Write, *offset, buf.len() as u64)?.max(end);
                batch.add_write(*offset, [IoSlice::new(buf)].iter());
            }
        }
        if batch.fits(self.file.alignment()) {
            return self.write_pieces(batch, end);
        }
        requests.iter().try_for_each(|request| self.file.write_at(request.offset, request.buf))
    }

    /// The file as requests hold it.
    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.file) as Arc<dyn Target>
    }

    fn read_pieces(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<Option<usize>> {
        let len = total_len(bufs.iter().map(|buf| &**buf)) as usize;
        if len <= self.piece_bytes || !fits_position(offset, len) {
            return Ok(None);
        }
        let mut batch = Batch::of_reads(self.piece_bytes);
        batch.add_read(offset, bufs.iter_mut());
        let alignment = self.file.alignment();
        if batch.fits(alignment) {
            let done = batch.run(&mut self.pool.lease(), &self.target())?;
            return Ok(Some(found(&done) as usize));
        }
        if !alignment.fits_request(offset, len as u64) {
            return Ok(None);
        }
        self.read_bounced(offset, len, bufs).map(Some)
    }

    /// Reads whole blocks for memory that the host does not take.
    fn read_bounced(&self, offset: u64, len: usize, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let mut bounce = AlignedBuffer::zeroed(self.file.alignment(), len.min(BOUNCE_BYTES_MAX));
        let mut done = 0;
        while done < len {
            let count = (len - done).min(bounce.len());
            let mut part = [IoSliceMut::new(&mut bounce[..count])];
            let mut batch = Batch::of_reads(self.piece_bytes);
            batch.add_read(offset + done as u64, part.iter_mut());
            let pieces = batch.run(&mut self.pool.lease(), &self.target())?;
            let read = found(&pieces) as usize;
            copy_in(bufs, done, &bounce[..read]);
            done += read;
            if read < count {
                break;
            }
        }
        Ok(done)
    }

    /// Whether the request was served here.
    fn try_write(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<bool> {
        let len = total_len(bufs.iter().map(|buf| &**buf));
        if len <= self.piece_bytes as u64 {
            return Ok(false);
        }
        self.file.writable(Operation::Write)?;
        let end = checked_end(Operation::Write, offset, len)?;
        let mut batch = Batch::of_writes(self.piece_bytes);
        batch.add_write(offset, bufs.iter());
        let alignment = self.file.alignment();
        if batch.fits(alignment) {
            self.write_pieces(batch, end)?;
        } else if alignment.fits_request(offset, len) {
            self.write_bounced(offset, len as usize, bufs)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Writes whole blocks from memory that the host does not take.
    fn write_bounced(&self, offset: u64, len: usize, bufs: &[IoSlice<'_>]) -> Result<()> {
        let mut bounce = AlignedBuffer::zeroed(self.file.alignment(), len.min(BOUNCE_BYTES_MAX));
        let mut done = 0;
        while done < len {
            let count = (len - done).min(bounce.len());
            copy_out(bufs, done, &mut bounce[..count]);
            let part = [IoSlice::new(&bounce[..count])];
            let mut batch = Batch::of_writes(self.piece_bytes);
            let at = offset + done as u64;
            batch.add_write(at, part.iter());
            self.write_pieces(batch, at + count as u64)?;
            done += count;
        }
        Ok(())
    }

    fn write_pieces(&self, batch: Batch<'_>, end: u64) -> Result<()> {
        // The ring first: whoever waits for one must not keep others from moving the end.
        let mut ring = self.pool.lease();
        let beside = self.file.beside(end);
        batch.run(&mut ring, &self.target())?;
        beside.done();
        Ok(())
    }
}

/// Whether the host can name every position of a read. What is beyond reads as nothing.
fn fits_position(offset: u64, len: usize) -> bool {
    offset.checked_add(len as u64).is_some_and(|end| end <= POSITION_MAX)
}

impl Storage for UringStorage {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match self.read_pieces(offset, &mut [IoSliceMut::new(buf)])? {
            Some(found) => Ok(found),
            None => self.file.read_at(offset, buf),
        }
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        match self.read_pieces(offset, bufs)? {
            Some(found) => Ok(found),
            None => self.file.read_vectored_at(offset, bufs),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        if self.try_write(offset, &[IoSlice::new(buf)])? {
            return Ok(());
        }
        self.file.write_at(offset, buf)
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        if self.try_write(offset, bufs)? {
            return Ok(());
        }
        self.file.write_vectored_at(offset, bufs)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.file.write_zeroes_at(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        self.file.punch_hole(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.file.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.file.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.file.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.file.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.file.identity()
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        self.file.forget_cached(offset, len);
    }

    fn begin_sync(&self) {
        self.file.begin_sync();
    }

    fn modified(&self) -> Result<Option<i64>> {
        self.file.modified()
    }

    fn is_read_only(&self) -> bool {
        self.file.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.file.lock(lock)
    }
}
