//! Lists of requests for memory that is only borrowed: whoever asks waits until all are over.
#![expect(unsafe_code, reason = "the borrow of the memory is told to the kernel as an address")]

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use libc::iovec;

use super::request::Request;
use super::ring::Ring;
use super::target::Target;
use crate::{Alignment, Operation, Result};

/// One read of a [batch](super::UringStorage::read_batch).
#[derive(Debug)]
pub struct ReadRequest<'b> {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// What is filled.
    pub buf: &'b mut [u8],
}

/// One write of a [batch](super::UringStorage::write_batch).
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'b> {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// What is written.
    pub buf: &'b [u8],
}

/// Pieces of requests of one kind, with the memory they borrow.
pub(super) struct Batch<'b> {
    operation: Operation,
    piece_bytes: usize,
    pieces: Vec<Piece>,
    /// Exclusive for reads; nobody reads or writes through it before the batch is over.
    memory: core::marker::PhantomData<&'b mut [u8]>,
}

struct Piece {
    offset: u64,
    len: u64,
    parts: Vec<iovec>,
}

impl<'b> Batch<'b> {
    /// Reads, in pieces of at most so many bytes.
    pub(super) fn of_reads(piece_bytes: usize) -> Self {
        Self::new(Operation::Read, piece_bytes)
    }

    /// Writes, in pieces of at most so many bytes.
    pub(super) fn of_writes(piece_bytes: usize) -> Self {
        Self::new(Operation::Write, piece_bytes)
    }

    fn new(operation: Operation, piece_bytes: usize) -> Self {
        let memory = core::marker::PhantomData;
        Self { operation, piece_bytes: piece_bytes.max(1), pieces: Vec::new(), memory }
    }

    /// Adds a read of a batch of reads.
    pub(super) fn add_read<'s>(
        &mut self,
        offset: u64,
        bufs: impl Iterator<Item = &'s mut IoSliceMut<'b>>,
    ) where
        'b: 's,
    {
        debug_assert_eq!(self.operation, Operation::Read);
        self.add(offset, bufs.map(|buf| (buf.as_mut_ptr(), buf.len())));
    }

    /// Adds a write of a batch of writes.
    pub(super) fn add_write<'s>(&mut self, offset: u64, bufs: impl Iterator<Item = &'s IoSlice<'b>>)
    where
        'b: 's,
    {
        debug_assert_eq!(self.operation, Operation::Write);
        // The kernel only reads through it.
        self.add(offset, bufs.map(|buf| (buf.as_ptr().cast_mut(), buf.len())));
    }

    fn add(&mut self, offset: u64, bufs: impl Iterator<Item = (*mut u8, usize)>) {
        let mut at = offset;
        let mut piece = Piece { offset, len: 0, parts: Vec::new() };
        for (mut start, mut left) in bufs {
            while left > 0 {
                let len = left.min(self.piece_bytes - piece.len as usize);
                piece.parts.push(iovec { iov_base: start.cast(), iov_len: len });
                piece.len += len as u64;
                at += len as u64;
                (start, left) = (start.wrapping_add(len), left - len);
                if piece.len as usize == self.piece_bytes {
                    let next = Piece { offset: at, len: 0, parts: Vec::new() };
                    self.pieces.push(core::mem::replace(&mut piece, next));
                }
            }
        }
        if piece.len > 0 {
            self.pieces.push(piece);
        }
    }

    /// Number of pieces so far.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether the host takes all of it as it is.
    pub(super) fn fits(&self, alignment: Alignment) -> bool {
        let part = |part: &iovec| {
            alignment.fits_request(0, part.iov_len as u64)
                && alignment.fits_address(part.iov_base.addr())
        };
        self.pieces.iter().all(|piece| {
            alignment.fits_request(piece.offset, piece.len) && piece.parts.iter().all(part)
        })
    }

    /// Runs all pieces at once, as far as the ring is deep, and returns the length of each and how
    /// many of its bytes were read or written.
    ///
    /// # Errors
    /// The first failure; what of the others happened is unknown.
    pub(super) fn run(self, ring: &mut Ring, target: &Arc<dyn Target>) -> Result<Vec<(u64, u64)>> {
        let scope = Scope { ring };
        let mut done: Vec<(u64, u64)> = self.pieces.iter().map(|piece| (piece.len, 0)).collect();
        for (number, piece) in self.pieces.into_iter().enumerate() {
            let target = Arc::clone(target);
            let token = number as u64;
            // SAFETY: the memory is borrowed for 'b, which is longer than this call, and `scope`
            // does not let this call end, not even by a panic, before all requests are over.
            let request = unsafe {
                Request::borrowed(token, self.operation, target, piece.offset, piece.parts)
            };
            scope.ring.add(request);
        }
        while scope.ring.len() > 0 {
            let Some((_, request)) = scope.ring.fetch() else {
                scope.ring.turn(true)?;
                continue;
            };
            let token = request.token as usize;
            let (outcome, _) = request.into_parts();
            let count = outcome?;
            if let Some((_, bytes)) = done.get_mut(token) {
                *bytes = count;
            }
        }
        Ok(done)
    }
}

/// Leaves the ring empty.
struct Scope<'r> {
    ring: &'r mut Ring,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        self.ring.drain();
        while self.ring.fetch().is_some() {}
    }
}

/// How far a list of neighbouring pieces goes before the object ends.
pub(super) fn found(pieces: &[(u64, u64)]) -> u64 {
    let mut found = 0;
    for (wanted, count) in pieces {
        found += count;
        if count < wanted {
            break;
        }
    }
    found
}
