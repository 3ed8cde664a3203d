//! Direct I/O: what the host asks of requests, and the bounce of those that do not fit.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};

use rustix::fs::{AtFlags, StatxFlags};

use super::gather::{copy_in, copy_out};
use super::{FileStorage, buffered};
use crate::range::total_len;
use crate::{Alignment, Result, Storage};

/// Most bytes bounced at once.
const BOUNCE_BYTES_MAX: u64 = 1 << 20;

/// Assumed where the host does not tell: every common block size divides it.
const ALIGNMENT_DEFAULT: u32 = 4096;

/// What a direct file needs beyond a buffered one.
#[derive(Debug)]
pub(super) struct Direct {
    alignment: Alignment,
}

impl Direct {
    /// Asks the host what it requires.
    pub(super) fn probe(file: &File, is_device: bool) -> Self {
        let told = if is_device { device_alignment(file) } else { file_alignment(file) };
        let alignment = told
            .or(Alignment::new(ALIGNMENT_DEFAULT, ALIGNMENT_DEFAULT))
            .unwrap_or(Alignment::NONE);
        Self::with_alignment(alignment)
    }

    /// A file of which the alignment is known.
    pub(super) fn with_alignment(alignment: Alignment) -> Self {
        Self { alignment }
    }

    pub(super) fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Reads into all buffers, as far as the file goes.
    pub(super) fn read(
        &self,
        file: &File,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf));
        if self.fits(offset, bufs.iter().map(|buf| &**buf)) {
            return self.read_fitting(file, offset, bufs);
        }
        let end = offset + wanted;
        let mut at = offset;
        while at < end {
            let window = Window::new(self.alignment, at, end);
            let mut bounce = Bounce::new(self.alignment, window.len());
            let found = self.read_block(file, window.start, bounce.bytes())?;
            let useful = (window.start + found as u64).min(window.request_end).max(at);
            let inside = (at - window.start) as usize..(useful - window.start) as usize;
            copy_in(bufs, (at - offset) as usize, &bounce.bytes()[inside]);
            at = useful;
            if useful < window.request_end {
                break;
            }
        }
        Ok((at - offset) as usize)
    }

    fn read_fitting(&self, file: &File, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let mut found = 0;
        for buf in bufs {
            let count = self.read_block(file, offset + found as u64, buf)?;
            found += count;
            if count < buf.len() {
                break;
            }
        }
        Ok(found)
    }

    /// Reads a fitting range into a fitting buffer. A count that is no multiple of the alignment
    /// means that the file ends there; going on from such a position would be refused.
    fn read_block(&self, file: &File, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut found = 0;
        while found < buf.len() {
            let at = offset + found as u64;
            let count = buffered::read_once(file, at, &mut buf[found..])?;
            found += count;
            if count == 0 || !self.alignment.fits_request(0, count as u64) {
                break;
            }
        }
        Ok(found)
    }

    /// Writes all buffers (which are not all empty), keeping the bytes around them and the exact length of the file.
    pub(super) fn write(
        &self,
        storage: &FileStorage,
        offset: u64,
        bufs: &[IoSlice<'_>],
    ) -> Result<()> {
        let len = total_len(bufs.iter().map(|buf| &**buf));
        if self.alignment.fits_request(offset, len) {
            let _beside = storage.beside(offset + len);
            if self.fits(offset, bufs.iter().map(|buf| &**buf)) {
                return buffered::write_vectored(&storage.file, offset, bufs);
            }
            return self.write_bounced(&storage.file, offset, bufs, len);
        }
        let _alone = storage.order.exclusive();
        let exact = storage.len()?.max(offset + len);
        self.write_bounced(&storage.file, offset, bufs, len)?;
        if !storage.is_device && storage.len()? > exact {
            // The last block was written whole and pulled the end along.
            storage.resize(exact)?;
        }
        Ok(())
    }

    fn write_bounced(
        &self,
        file: &File,
        offset: u64,
        bufs: &[IoSlice<'_>],
        len: u64,
    ) -> Result<()> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let window = Window::new(self.alignment, at, end);
            let mut bounce = Bounce::new(self.alignment, window.len());
            if window.start < at || window.request_end < window.end {
                // Past the end of the file the bounce keeps its zeros.
                self.read_block(file, window.start, bounce.bytes())?;
            }
            let inside = (at - window.start) as usize..(window.request_end - window.start) as usize;
            copy_out(bufs, (at - offset) as usize, &mut bounce.bytes()[inside]);
            buffered::write(file, window.start, bounce.bytes())?;
            at = window.request_end;
        }
        Ok(())
    }

    /// Whether offset, every length and every address fit.
    fn fits<'a>(&self, offset: u64, mut bufs: impl Iterator<Item = &'a [u8]>) -> bool {
        self.alignment.fits_request(offset, 0)
            && bufs.all(|buf| {
                self.alignment.fits_request(0, buf.len() as u64) && self.alignment.fits_buffer(buf)
            })
    }
}

/// An aligned piece of the file around the part of a request that is served next.
struct Window {
    /// Aligned, at or before the next byte of the request.
    start: u64,
    /// Aligned, at or after `request_end`.
    end: u64,
    /// Where the request ends in this window.
    request_end: u64,
}

impl Window {
    fn new(alignment: Alignment, at: u64, request_end: u64) -> Self {
        let unit = u64::from(alignment.request());
        let start = at - at % unit;
        let end = request_end.next_multiple_of(unit).min(start + BOUNCE_BYTES_MAX.max(unit));
        Self { start, end, request_end: request_end.min(end) }
    }

    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// A zeroed buffer whose address fits.
struct Bounce {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    fn new(alignment: Alignment, len: usize) -> Self {
        let unit = alignment.memory() as usize;
        let memory = vec![0; len + unit];
        let start = memory.as_ptr().addr().wrapping_neg() % unit;
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// What the file system says (`STATX_DIOALIGN`), if it does.
fn file_alignment(file: &File) -> Option<Alignment> {
    let told = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    Alignment::new(told.stx_dio_offset_align, told.stx_dio_mem_align)
}

/// The logical block size, which serves for addresses too.
fn device_alignment(file: &File) -> Option<Alignment> {
    let unit = rustix::fs::ioctl_blksszget(file).ok()?;
    Alignment::new(unit, unit)
}
