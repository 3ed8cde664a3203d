//! Direct I/O: what the host asks of requests, and how those that do not fit are served.
//!
//! A request is cut into parts. What fits goes between the host and the caller's memory without
//! a copy; only what does not (the edges of an unaligned request, buffers at odd addresses) is
//! bounced, and only there a write reads first.

mod bounce;
mod parts;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};

use rustix::fs::{AtFlags, StatxFlags};

use self::bounce::Bounces;
use self::parts::{BOUNCE_BYTES_MAX, next_part};
use super::gather::{copy_in, copy_out, slices_in, slices_out};
use super::{FileStorage, buffered};
use crate::range::total_len;
use crate::{Alignment, Result, Storage};

/// Assumed where the host does not tell: every common block size divides it.
const ALIGNMENT_DEFAULT: u32 = 4096;

/// What a direct file needs beyond a buffered one.
#[derive(Debug)]
pub(super) struct Direct {
    alignment: Alignment,
    bounces: Bounces,
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
        Self { alignment, bounces: Bounces::new(alignment) }
    }

    pub(super) fn alignment(&self) -> Alignment {
        self.alignment
    }

    #[cfg(all(test, feature = "io-uring"))]
    pub(super) fn bounces_kept(&self) -> usize {
        self.bounces.kept()
    }

    /// Reads into all buffers, as far as the file goes.
    pub(super) fn read(
        &self,
        file: &File,
        offset: u64,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Result<usize> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf)) as usize;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let part = next_part(self.alignment, offset, bufs, done);
            let found = if part.fits {
                self.read_fitting(file, at, &mut slices_in(bufs, done, part.len))?
            } else {
                let window = Window::around(self.alignment, at, part.len);
                let mut bounce = self.bounces.take(window.len());
                let found = self.read_block(file, window.start, &mut bounce)?;
                let useful = found.saturating_sub(window.skip(at)).min(part.len);
                let from = window.skip(at).min(found);
                copy_in(bufs, done, &bounce[from..from + useful]);
                useful
            };
            done += found;
            if found < part.len {
                break;
            }
        }
        Ok(done)
    }

    /// Reads a fitting range into fitting buffers, in one call if the host lets it.
    fn read_fitting(&self, file: &File, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf)) as usize;
        let found = buffered::read_vectored_once(file, offset, bufs)?;
        if found == wanted || found == 0 || !self.alignment.fits_request(0, found as u64) {
            return Ok(found);
        }
        // The host took a part of it: rare enough to go on buffer by buffer.
        let mut found = found;
        for buf in &mut slices_in(bufs, found, wanted - found) {
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

    /// Writes all buffers (which are not all empty), keeping the bytes around them and the exact
    /// length of the file.
    pub(super) fn write(
        &self,
        storage: &FileStorage,
        offset: u64,
        bufs: &[IoSlice<'_>],
    ) -> Result<()> {
        let len = total_len(bufs.iter().map(|buf| &**buf));
        let end = offset + len;
        if self.alignment.fits_request(offset, len) {
            let _beside = storage.beside(end);
            return self.write_parts(&storage.file, offset, bufs);
        }
        let _alone = storage.order.exclusive();
        // Before the end is looked at: one that is over by now has moved it already, and none begins.
        let may_move = storage.order.has_outsiders();
        let old_end = storage.len()?;
        self.write_parts(&storage.file, offset, bufs)?;
        let block_end = end.next_multiple_of(u64::from(self.alignment.request()));
        let pulled = block_end > old_end && !storage.is_device;
        if pulled && !may_move && storage.len()? > old_end.max(end) {
            // The last block was written whole and pulled the end along.
            storage.resize(old_end.max(end))?;
        }
        Ok(())
    }

    fn write_parts(&self, file: &File, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf)) as usize;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let part = next_part(self.alignment, offset, bufs, done);
            if part.fits {
                buffered::write_vectored(file, at, &slices_out(bufs, done, part.len))?;
            } else {
                self.write_bounced(file, at, bufs, done, part.len)?;
            }
            done += part.len;
        }
        Ok(())
    }

    /// Writes `len` bytes, `done` into the list, through memory of our own; bytes of the file
    /// that share a block with them are read first.
    fn write_bounced(
        &self,
        file: &File,
        at: u64,
        bufs: &[IoSlice<'_>],
        done: usize,
        len: usize,
    ) -> Result<()> {
        let window = Window::around(self.alignment, at, len);
        let mut bounce = self.bounces.take(window.len());
        let unit = self.alignment.request() as usize;
        let (skip, end) = (window.skip(at), window.skip(at) + len);
        let mut read_edge = |edge: core::ops::Range<usize>| -> Result<()> {
            let at = window.start + edge.start as u64;
            let edge = &mut bounce[edge];
            let found = self.read_block(file, at, edge)?;
            // Past the end of the file there are zeros.
            edge[found..].fill(0);
            Ok(())
        };
        if skip > 0 {
            read_edge(0..unit)?;
        }
        let last = window.len() - unit;
        if end < window.len() && (skip == 0 || last > 0) {
            read_edge(last..window.len())?;
        }
        copy_out(bufs, done, &mut bounce[skip..end]);
        buffered::write(file, window.start, &bounce)
    }
}

/// The whole blocks of the file around a part of a request.
struct Window {
    start: u64,
    end: u64,
}

impl Window {
    fn around(alignment: Alignment, at: u64, len: usize) -> Self {
        let unit = u64::from(alignment.request());
        Self { start: at - at % unit, end: (at + len as u64).next_multiple_of(unit) }
    }

    /// A part is at most [`BOUNCE_BYTES_MAX`] long, so this fits memory.
    fn len(&self) -> usize {
        debug_assert!(self.end - self.start <= 2 * BOUNCE_BYTES_MAX as u64);
        (self.end - self.start) as usize
    }

    /// Bytes of the window before `at`.
    fn skip(&self, at: u64) -> usize {
        (at - self.start) as usize
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

#[cfg(test)]
mod tests;
