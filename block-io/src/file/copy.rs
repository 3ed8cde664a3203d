//! Copies between files, inside the host where it can.

use rustix::io::{Errno, retry_on_intr};

use super::FileStorage;
use crate::range::checked_end;
use crate::{Error, Operation, Result, Storage, StorageExt};

/// Most bytes in memory when the host cannot copy by itself.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Most bytes asked for in one call: what Linux does at most, in whole pages.
const CALL_BYTES_MAX: u64 = 0x7fff_f000;

impl FileStorage {
    /// Copies `len` bytes at `offset` to `target` at `target_offset`, which grows where it ends
    /// earlier. File systems that can share the blocks do so; where the host cannot copy between
    /// these two files, bytes go through memory.
    ///
    /// # Errors
    /// [`Error::ShortRead`] when this file ends before the range does; [`Error::Io`] with
    /// `EINVAL` when both ranges lie in one file and overlap; [`Error::ReadOnly`],
    /// [`Error::OutOfRange`] or [`Error::Io`] as for reads and writes. Any part may have been
    /// copied then.
    pub fn copy_range(
        &self,
        offset: u64,
        target: &FileStorage,
        target_offset: u64,
        len: u64,
    ) -> Result<()> {
        target.writable(Operation::Copy)?;
        let end = checked_end(Operation::Copy, offset, len)?;
        let target_end = checked_end(Operation::Copy, target_offset, len)?;
        let overlap = offset < target_end && target_offset < end;
        if overlap && self.identity()? == target.identity()? {
            return Err(Error::io(Operation::Copy, offset, len, Errno::INVAL.into()));
        }
        let done = self.copy_in_host(offset, target, target_offset, len)?;
        self.copy_through_memory(offset + done, target, target_offset + done, len - done)
    }

    /// Copies until the host gives up; returns how many bytes it has copied.
    fn copy_in_host(&self, from: u64, target: &FileStorage, to: u64, len: u64) -> Result<u64> {
        let _beside = target.beside(to + len);
        let mut done = 0;
        while done < len {
            let count = usize::try_from((len - done).min(CALL_BYTES_MAX)).unwrap_or(usize::MAX);
            let (mut from_at, mut to_at) = (from + done, to + done);
            let copied = retry_on_intr(|| {
                rustix::fs::copy_file_range(
                    &self.file,
                    Some(&mut from_at),
                    &target.file,
                    Some(&mut to_at),
                    count,
                )
            });
            match copied {
                // The end, or a file system that only pretends to copy: a read will tell.
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
                Err(errno) => {
                    let (at, rest) = (from + done, len - done);
                    return Err(Error::io(Operation::Copy, at, rest, errno.into()));
                }
            }
        }
        Ok(done)
    }

    fn copy_through_memory(
        &self,
        from: u64,
        target: &FileStorage,
        to: u64,
        len: u64,
    ) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let mut buf = vec![0; len.min(COPY_BYTES_MAX) as usize];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(COPY_BYTES_MAX);
            let part = &mut buf[..count as usize];
            self.read_exact_at(from + done, part)?;
            target.write_at(to + done, part)?;
            done += count;
        }
        Ok(())
    }
}
