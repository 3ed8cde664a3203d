//! `FileStorage`: a file or block device of this host.

mod buffered;
mod copy;
mod direct;
mod extent;
mod gather;
mod hints;
mod host;
mod lock;
mod open;
mod order;
mod space;
mod writeback;

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, SeekFrom, Stat};

pub use self::host::HostFiles;
pub use self::open::{Create, Locking, OpenOptions};

#[cfg(feature = "io-uring")]
pub(crate) use self::gather::{copy_in, copy_out};

use self::direct::Direct;
use self::lock::HeldLock;
use self::order::{Beside, Order};
use self::space::Refused;
use crate::range::{POSITION_MAX, checked_end, total_len};
use crate::{Alignment, Error, Extent, FileId, Lock, Operation, Result, Storage};

/// A regular file or block device, read and written at positions.
///
/// Made by [`OpenOptions::open`] or [`FileStorage::from_file`]. I/O goes through the host's page
/// cache unless the file was opened for direct I/O. Locks are held until they are changed or the
/// storage is dropped; two handles on one file exclude each other even within one process.
///
/// The position of the descriptor moves when extents are asked for; nothing here depends on it,
/// and nobody who shares the descriptor may.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    read_only: bool,
    is_device: bool,
    ignores_syncs: bool,
    /// Present when the file was opened with `O_DIRECT`.
    direct: Option<Direct>,
    order: Order,
    held: HeldLock,
    refused: Refused,
}

impl FileStorage {
    pub(crate) fn writable(&self, operation: Operation) -> Result<()> {
        if self.read_only { Err(Error::ReadOnly { operation }) } else { Ok(()) }
    }

    /// Protects a change that ends at `end` from those that look first and act later.
    pub(crate) fn beside(&self, end: u64) -> Beside<'_> {
        self.order.beside(end, self.direct.is_some())
    }

    /// Announces a write that goes around [`beside`](Self::beside); it may pass here at once.
    #[cfg(feature = "io-uring")]
    pub(crate) fn outsider_begins(&self) {
        self.order.outsider_begins();
    }

    /// Such a write is over.
    #[cfg(feature = "io-uring")]
    pub(crate) fn outsider_is_done(&self) {
        self.order.outsider_is_done();
    }

    /// Whether a sync promises nothing.
    #[cfg(feature = "io-uring")]
    pub(crate) fn ignores_syncs(&self) -> bool {
        self.ignores_syncs
    }

    /// How many buffers the file keeps for bounces: none as long as nothing was bounced.
    #[cfg(all(test, feature = "io-uring"))]
    pub(crate) fn bounces_kept(&self) -> usize {
        self.direct.as_ref().map_or(0, Direct::bounces_kept)
    }

    fn stat(&self, operation: Operation) -> Result<Stat> {
        rustix::fs::fstat(&self.file).map_err(|errno| Error::host(operation, errno.into()))
    }
}

impl Drop for FileStorage {
    /// Drops the locks by name. Closing the file would do it too, but not before everybody who
    /// shares the descriptor has closed it, be it only a process that is just being started.
    fn drop(&mut self) {
        // Dropping locks fails only where there are none.
        let _ = self.held.change(&self.file, Lock::none());
    }
}

impl AsFd for FileStorage {
    /// The descriptor, for callers with their own I/O loop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Storage for FileStorage {
    fn len(&self) -> Result<u64> {
        if self.is_device {
            // A device has no length in its inode.
            return rustix::fs::seek(&self.file, SeekFrom::End(0))
                .map_err(|errno| Error::host(Operation::Len, errno.into()));
        }
        let stat = self.stat(Operation::Len)?;
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let room = POSITION_MAX.saturating_sub(offset).min(buf.len() as u64);
        let buf = &mut buf[..room as usize];
        match &self.direct {
            None => buffered::read(&self.file, offset, buf),
            Some(direct) => direct.read(&self.file, offset, &mut [IoSliceMut::new(buf)]),
        }
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf));
        if offset.checked_add(wanted).is_none_or(|end| end > POSITION_MAX) {
            return self.read_one_by_one(offset, bufs);
        }
        match &self.direct {
            None => buffered::read_vectored(&self.file, offset, bufs),
            Some(direct) => direct.read(&self.file, offset, bufs),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.writable(Operation::Write)?;
        let end = checked_end(Operation::Write, offset, buf.len() as u64)?;
        if buf.is_empty() {
            return Ok(());
        }
        if let Some(direct) = &self.direct {
            return direct.write(self, offset, &[IoSlice::new(buf)]);
        }
        let beside = self.beside(end);
        buffered::write(&self.file, offset, buf)?;
        beside.done();
        Ok(())
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        self.writable(Operation::Write)?;
        let len = total_len(bufs.iter().map(|buf| &**buf));
        let end = checked_end(Operation::Write, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        if let Some(direct) = &self.direct {
            return direct.write(self, offset, bufs);
        }
        let beside = self.beside(end);
        buffered::write_vectored(&self.file, offset, bufs)?;
        beside.done();
        Ok(())
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        self.writable(Operation::WriteZeroes)?;
        checked_end(Operation::WriteZeroes, offset, len)?;
        if len == 0 { Ok(()) } else { self.zero_range(offset, len) }
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        self.writable(Operation::PunchHole)?;
        checked_end(Operation::PunchHole, offset, len)?;
        if len == 0 { Ok(true) } else { self.punch_range(offset, len) }
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.writable(Operation::Allocate)?;
        checked_end(Operation::Allocate, offset, len)?;
        if len == 0 { Ok(()) } else { self.allocate_range(offset, len) }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.writable(Operation::SetLen)?;
        checked_end(Operation::SetLen, 0, len)?;
        let _alone = self.order.exclusive();
        self.resize(len)
    }

    fn sync(&self) -> Result<()> {
        if self.ignores_syncs {
            return Ok(());
        }
        rustix::fs::fdatasync(&self.file)
            .map_err(|errno| Error::host(Operation::Sync, errno.into()))
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        extent::at(&self.file, offset, self.len()?)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        if self.is_device {
            return self.len();
        }
        let stat = self.stat(Operation::Attributes)?;
        // The unit of `st_blocks` is 512 whatever the block size of the file system.
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    fn alignment(&self) -> Alignment {
        self.direct.as_ref().map_or(Alignment::NONE, Direct::alignment)
    }

    fn identity(&self) -> Result<Option<FileId>> {
        let stat = self.stat(Operation::Attributes)?;
        Ok(Some(if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
            FileId::Device { number: stat.st_rdev }
        } else {
            FileId::File { device: stat.st_dev, inode: stat.st_ino }
        }))
    }

    fn forget_cached(&self, offset: u64, len: u64) {
        // A host that keeps it all the same has lost nothing but memory.
        let len = core::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(&self.file, offset, len, rustix::fs::Advice::DontNeed);
    }

    fn begin_sync(&self) {
        if !self.ignores_syncs && !self.read_only {
            writeback::begin(&self.file);
        }
    }

    fn modified(&self) -> Result<Option<i64>> {
        if self.is_device {
            // What its node says is about the node.
            return Ok(None);
        }
        let stat = self.stat(Operation::Attributes)?;
        let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
        let seconds = stat.st_mtime.checked_mul(1_000_000_000);
        Ok(seconds.and_then(|seconds| seconds.checked_add(nanoseconds)))
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.held.change(&self.file, lock)
    }
}

impl FileStorage {
    /// Reads buffer by buffer: for ranges whose end no host call could name.
    fn read_one_by_one(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let mut found = 0;
        for buf in bufs {
            let count = self.read_at(offset.saturating_add(found as u64), buf)?;
            found += count;
            if count < buf.len() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
