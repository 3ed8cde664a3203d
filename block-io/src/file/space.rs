//! Space of a file: zeroing, punching, reserving, cutting and extending.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use super::FileStorage;
use crate::{Error, Operation, Result, Storage};

/// Zeros written at once where the host has no better way. Aligned for direct files too.
#[repr(align(4096))]
struct Zeros([u8; 64 << 10]);
static ZEROS: Zeros = Zeros([0; 64 << 10]);

/// What the host has refused once and is not asked again. Plain flags: the worst of a stale
/// view is one more refused call.
#[derive(Debug, Default)]
pub(super) struct Refused {
    zero_range: AtomicBool,
    punch: AtomicBool,
    allocate: AtomicBool,
}

#[cfg(test)]
impl Refused {
    /// Plays a host that knows no `fallocate` at all.
    pub(super) fn refuse_all(&self) {
        for flag in [&self.zero_range, &self.punch, &self.allocate] {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

impl FileStorage {
    /// Zeroes a range that is not empty.
    pub(super) fn zero_range(&self, offset: u64, len: u64) -> Result<()> {
        let operation = Operation::WriteZeroes;
        {
            let beside = self.beside(offset + len);
            let mode = FallocateFlags::ZERO_RANGE;
            if self.ask(operation, &self.refused.zero_range, mode, offset, len)? {
                beside.done();
                return Ok(());
            }
        }
        let (end, old_end) = (offset + len, self.len()?);
        if offset < old_end && !self.punch_and_reserve(offset, end.min(old_end) - offset)? {
            self.write_zero_buffers(offset, end.min(old_end))?;
        }
        if end > old_end {
            // Whatever the file grows by reads as zeros.
            self.set_len_at_least(end)?;
        }
        Ok(())
    }

    /// The second best way to zero: give the space back and reserve it anew.
    fn punch_and_reserve(&self, offset: u64, len: u64) -> Result<bool> {
        if !self.punch_range(offset, len)? {
            return Ok(false);
        }
        let _beside = self.beside(offset + len);
        let flag = &self.refused.allocate;
        // A refusal leaves a hole, which reads as zeros: good enough.
        self.ask(Operation::WriteZeroes, flag, FallocateFlags::empty(), offset, len)?;
        Ok(true)
    }

    fn write_zero_buffers(&self, offset: u64, end: u64) -> Result<()> {
        let mut at = offset;
        while at < end {
            // Up to the next boundary first, so that direct files bounce twice at most.
            let boundary = (at + 1).next_multiple_of(ZEROS.0.len() as u64).min(end);
            self.write_at(at, &ZEROS.0[..(boundary - at) as usize])?;
            at = boundary;
        }
        Ok(())
    }

    /// Punches a range that is not empty.
    pub(super) fn punch_range(&self, offset: u64, len: u64) -> Result<bool> {
        let mut len = len;
        if self.is_device {
            // A device refuses ranges past its end; files take them.
            len = len.min(self.len()?.saturating_sub(offset));
            if len == 0 {
                return Ok(true);
            }
        }
        let _beside = self.beside(offset + len);
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.ask(Operation::PunchHole, &self.refused.punch, mode, offset, len)
    }

    /// Reserves a range that is not empty.
    pub(super) fn allocate_range(&self, offset: u64, len: u64) -> Result<()> {
        let flag = &self.refused.allocate;
        {
            let beside = self.beside(offset + len);
            if self.ask(Operation::Allocate, flag, FallocateFlags::empty(), offset, len)? {
                beside.done();
                return Ok(());
            }
        }
        self.set_len_at_least(offset + len)
    }

    /// Asks for one kind of `fallocate`; `false` when the host does not know it.
    fn ask(
        &self,
        operation: Operation,
        refused: &AtomicBool,
        mode: FallocateFlags,
        offset: u64,
        len: u64,
    ) -> Result<bool> {
        if refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, mode, offset, len)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            // Devices say this about ranges that do not fit their blocks; others may fit.
            Err(Errno::INVAL) if self.is_device => Ok(false),
            Err(errno) => Err(Error::io(operation, offset, len, errno.into())),
        }
    }

    fn set_len_at_least(&self, len: u64) -> Result<()> {
        let alone = self.order.exclusive();
        // Before the end is looked at: one that is over by now has moved it already, and none begins.
        let may_move = self.order.has_outsiders();
        if self.len()? >= len {
            return Ok(());
        }
        if may_move {
            // The end may move behind `len` any moment, and must not be cut: a zero moves it.
            drop(alone);
            return self.write_at(len - 1, &[0]);
        }
        self.resize(len)
    }

    /// Cuts or extends the file. The caller holds the order exclusively.
    pub(super) fn resize(&self, len: u64) -> Result<()> {
        let failed = |error: io::Error| Error::io(Operation::SetLen, 0, len, error);
        if self.is_device {
            let fits = len <= self.len()?;
            return if fits { Ok(()) } else { Err(failed(Errno::NOSPC.into())) };
        }
        retry_on_intr(|| rustix::fs::ftruncate(&self.file, len))
            .map_err(|errno| failed(errno.into()))?;
        self.order.moved(len);
        Ok(())
    }
}
