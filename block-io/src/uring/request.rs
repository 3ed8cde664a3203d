//! One request on its way: what is left of it, and the submission entries for that.
#![expect(unsafe_code, reason = "addresses for the kernel travel with the memory they are in")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use libc::iovec;
use rustix::io::Errno;

use super::buffer::Buffer;
use super::target::Target;
use crate::range::checked_end;
use crate::{Error, Operation, Result};

/// Most buffers the host takes in one call (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// Most bytes the host takes in one call, in whole pages.
const BYTES_MAX: u64 = 0x7fff_f000;

/// A request from when it is made until its outcome is fetched.
pub(super) struct Request {
    /// What the caller calls it.
    pub(super) token: u64,
    operation: Operation,
    target: Arc<dyn Target>,
    offset: u64,
    /// What the caller lent; `None` for memory of a caller who waits.
    buffers: Option<Vec<Buffer>>,
    /// What is left to be filled or written, from `first` on.
    parts: Vec<iovec>,
    first: usize,
    /// Bytes left and bytes done.
    left: u64,
    done: u64,
    /// Must not be left to a context that would have to wait.
    patient: bool,
    /// Somebody asked for an early end.
    pub(super) cancelled: bool,
    /// The kernel knows of it.
    pub(super) in_kernel: bool,
    /// Present once it is over.
    pub(super) outcome: Option<Result<u64>>,
}

// SAFETY: the raw pointers in `parts` lead into `buffers`, or into memory of a caller who waits
// until the request is over; neither cares which thread passes them on to the kernel.
unsafe impl Send for Request {}

/// What a completion means for its request.
pub(super) enum Next {
    /// Something is left: it goes into the ring again.
    Again,
    /// `outcome` is set.
    Over,
}

impl Request {
    /// A request for memory that lives as long as the request.
    pub(super) fn owned(
        token: u64,
        operation: Operation,
        target: Arc<dyn Target>,
        offset: u64,
        buffers: Vec<Buffer>,
    ) -> Self {
        let part =
            |buffer: &Buffer| iovec { iov_base: buffer.address().cast(), iov_len: buffer.len() };
        let parts = buffers.iter().filter(|buffer| !buffer.is_empty()).map(part).collect();
        Self::new(token, operation, target, offset, Some(buffers), parts)
    }

    /// A request for memory of somebody else.
    ///
    /// # Safety
    /// The memory of `parts` stays as it is until the request is over, and for a read nobody else
    /// uses it.
    pub(super) unsafe fn borrowed(
        token: u64,
        operation: Operation,
        target: Arc<dyn Target>,
        offset: u64,
        parts: Vec<iovec>,
    ) -> Self {
        Self::new(token, operation, target, offset, None, parts)
    }

    fn new(
        token: u64,
        operation: Operation,
        target: Arc<dyn Target>,
        offset: u64,
        buffers: Option<Vec<Buffer>>,
        parts: Vec<iovec>,
    ) -> Self {
        let left = parts.iter().map(|part| part.iov_len as u64).sum();
        Self {
            token,
            operation,
            target,
            offset,
            buffers,
            parts,
            first: 0,
            left,
            done: 0,
            patient: false,
            cancelled: false,
            in_kernel: false,
            outcome: None,
        }
    }

    /// A write whose thread does not hold the gate of the file for it. One that waits does.
    fn is_outsider(&self) -> bool {
        self.operation == Operation::Write && self.buffers.is_some()
    }

    /// The outcome and the caller's buffers, once the request is over.
    pub(super) fn into_parts(self) -> (Result<u64>, Vec<Buffer>) {
        let unfinished = || Err(self.failed(Errno::CANCELED.into()));
        let outcome = self.outcome.clone().unwrap_or_else(unfinished);
        (outcome, self.buffers.unwrap_or_default())
    }

    /// What the kernel is asked for. The entry points into `self.parts` and into the memory that
    /// those point at; both stay where they are until the completion arrives.
    pub(super) fn entry(&self) -> squeue::Entry {
        let fd = types::Fd(self.target.descriptor().as_raw_fd());
        let at = self.offset + self.done;
        let parts = &self.parts[self.first.min(self.parts.len())..];
        let entry = match (self.operation, parts) {
            (Operation::Read, [part]) => {
                opcode::Read::new(fd, part.iov_base.cast(), short(part)).offset(at).build()
            }
            (Operation::Write, [part]) => {
                opcode::Write::new(fd, part.iov_base.cast(), short(part)).offset(at).build()
            }
            (Operation::Read, _) => {
                opcode::Readv::new(fd, parts.as_ptr(), count(parts)).offset(at).build()
            }
            (Operation::Write, _) => {
                opcode::Writev::new(fd, parts.as_ptr(), count(parts)).offset(at).build()
            }
            _ => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        // A request that could not wait where it was is repeated where it can.
        if self.patient { entry.flags(squeue::Flags::ASYNC) } else { entry }
    }

    /// The kernel is about to learn of it.
    pub(super) fn begin(&mut self) {
        self.in_kernel = true;
        if self.is_outsider() {
            self.target.write_begins();
        }
    }

    /// The kernel is done with it, at least for now.
    pub(super) fn end(&mut self) {
        self.in_kernel = false;
        if self.is_outsider() {
            self.target.write_is_done();
        }
    }

    /// Takes in what the kernel answered: a count of bytes, or a negative error number.
    pub(super) fn settle(&mut self, answer: i32) -> Next {
        match u64::try_from(answer) {
            Ok(count) => self.advance(count.min(self.left)),
            Err(_) => match Errno::from_raw_os_error(answer.saturating_neg()) {
                Errno::INTR if !self.cancelled => Next::Again,
                Errno::AGAIN if !self.cancelled && !self.patient => {
                    self.patient = true;
                    Next::Again
                }
                errno => self.over(Err(self.failed(errno.into()))),
            },
        }
    }

    /// Ends a request before the kernel learns of it, if it is wrong or asks for nothing.
    pub(super) fn checked(mut self) -> Self {
        if self.operation == Operation::Sync {
            if self.target.ignores_syncs() {
                let _ = self.over(Ok(0));
            }
        } else if let Err(error) = self.check() {
            let _ = self.over(Err(error));
        } else if self.left == 0 {
            let _ = self.over(Ok(0));
        }
        self
    }

    fn check(&self) -> Result<()> {
        let (operation, offset, len) = (self.operation, self.offset, self.left);
        if operation == Operation::Write {
            self.target.writable(operation)?;
        }
        checked_end(operation, offset, len)?;
        let alignment = self.target.alignment();
        let fits = |part: &iovec| {
            alignment.fits_request(0, part.iov_len as u64)
                && alignment.fits_address(part.iov_base.addr())
        };
        if alignment.fits_request(offset, len) && self.parts.iter().all(fits) {
            return Ok(());
        }
        Err(Error::Misaligned { operation, offset, len, alignment })
    }

    /// Ends a request that the kernel never learned of, or that must not go on.
    pub(super) fn give_up(&mut self, errno: Errno) {
        let _ = self.over(Err(self.failed(errno.into())));
    }

    fn advance(&mut self, count: u64) -> Next {
        self.done += count;
        self.left -= count;
        self.skip(count as usize);
        if self.left == 0 {
            return self.over(Ok(self.done));
        }
        if self.operation == Operation::Read {
            // A count that is no multiple of the block size of a direct file means that the file
            // ends there; going on from such a position would be refused.
            let ends = count == 0 || !self.target.alignment().fits_request(0, count);
            if ends {
                return self.over(Ok(self.done));
            }
        } else if count == 0 {
            return self.over(Err(self.failed(io::ErrorKind::WriteZero.into())));
        }
        if self.cancelled {
            return self.over(Err(self.failed(Errno::CANCELED.into())));
        }
        Next::Again
    }

    /// Steps over bytes that are done.
    fn skip(&mut self, mut count: usize) {
        while let Some(part) = self.parts.get_mut(self.first) {
            if count < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(count);
                part.iov_len -= count;
                return;
            }
            count -= part.iov_len;
            self.first += 1;
        }
    }

    fn over(&mut self, outcome: Result<u64>) -> Next {
        self.outcome = Some(outcome);
        Next::Over
    }

    fn failed(&self, source: io::Error) -> Error {
        if self.operation == Operation::Sync {
            return Error::host(self.operation, source);
        }
        Error::io(self.operation, self.offset + self.done, self.left, source)
    }
}

fn short(part: &iovec) -> u32 {
    (part.iov_len as u64).min(BYTES_MAX) as u32
}

fn count(parts: &[iovec]) -> u32 {
    parts.len().min(PARTS_MAX) as u32
}
