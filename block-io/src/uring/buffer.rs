//! `Buffer`: memory that can be cut into pieces with owners of their own.
#![expect(unsafe_code, reason = "pieces of one allocation are handed out as exclusive slices")]

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::{AlignedBuffer, Alignment};

/// Bytes that one owner at a time may touch: the caller, or a [`Queue`](super::Queue) for as long
/// as a request is under way.
///
/// The parts of a guest request often lie at different places of an image:
/// [`split_off`](Buffer::split_off) cuts a buffer into pieces that can be under way at once, and
/// [`join`](Buffer::join) puts them together again. Neither copies a byte.
///
/// ```
/// use block_io::{Alignment, uring::Buffer};
///
/// let mut head = Buffer::zeroed(Alignment::NONE, 8192);
/// let tail = head.split_off(4096);
/// assert_eq!((head.len(), tail.len()), (4096, 4096));
/// head.join(tail).map_err(|_| "not neighbours")?;
/// assert_eq!(head.len(), 8192);
/// # Ok::<(), &str>(())
/// ```
pub struct Buffer {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
}

/// One allocation. Its bytes are only reached through `base`, by the pieces.
struct Memory {
    base: *mut u8,
    /// Keeps the bytes allocated; never touched otherwise.
    _bytes: AlignedBuffer,
}

// SAFETY: the bytes are plain memory that any thread may use; that no two pieces overlap, and that
// each is used by one thread at a time, is seen to by `Buffer`, whose methods are borrow-checked.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself gives no access to the bytes.
unsafe impl Sync for Memory {}

impl Buffer {
    /// `len` zeros at an address that is a multiple of `alignment.memory()`.
    #[must_use]
    pub fn zeroed(alignment: Alignment, len: usize) -> Self {
        Self::from(AlignedBuffer::zeroed(alignment, len))
    }

    /// Keeps the first `at` bytes, and returns the others.
    ///
    /// # Panics
    /// When `at` lies behind the end, like the method of `Vec`.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.len, "cannot split {} bytes at {at}", self.len);
        let (start, len) = (self.start + at, self.len - at);
        self.len = at;
        Self { memory: Arc::clone(&self.memory), start, len }
    }

    /// Takes back what was split off right behind the end of this.
    ///
    /// # Errors
    /// The given buffer, when it comes from elsewhere.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        if !Arc::ptr_eq(&self.memory, &next.memory) || self.start + self.len != next.start {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }

    /// Where the first byte lies, for the kernel.
    pub(super) fn address(&self) -> *mut u8 {
        // SAFETY: `start` is at most the length of the allocation.
        unsafe { self.memory.base.add(self.start) }
    }
}

impl From<AlignedBuffer> for Buffer {
    fn from(mut bytes: AlignedBuffer) -> Self {
        let (base, len) = (bytes.as_mut_ptr(), bytes.len());
        // Moving the vector inside moves no byte, and nothing else is ever done with it.
        Self { memory: Arc::new(Memory { base, _bytes: bytes }), start: 0, len }
    }
}

impl From<&[u8]> for Buffer {
    /// A copy, at any address.
    fn from(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(Alignment::NONE, bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the allocation, which lives as long as `memory`; its bytes are
        // initialised; no other piece overlaps, so whoever changes them has this very value.
        unsafe { core::slice::from_raw_parts(self.address(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.address(), self.len) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_written_apart_and_joined() {
        let mut whole = Buffer::zeroed(Alignment::new(512, 512).unwrap(), 1000);
        let mut b = whole.split_off(100);
        let mut c = b.split_off(300);
        std::thread::scope(|scope| {
            scope.spawn(|| whole.fill(1));
            scope.spawn(|| b.fill(2));
            scope.spawn(|| c.fill(3));
        });
        let c = whole.join(c).unwrap_err();
        whole.join(b).unwrap();
        whole.join(c).unwrap();
        let expected = [&[1; 100][..], &[2; 300], &[3; 600]].concat();
        assert_eq!(whole[..], expected);
        let stranger = Buffer::from(&b"xyz"[..]);
        assert_eq!(whole.join(stranger).unwrap_err()[..], *b"xyz");
    }

    #[test]
    fn a_piece_outlives_the_others() {
        let mut whole = Buffer::zeroed(Alignment::NONE, 10);
        whole[9] = 7;
        let last = whole.split_off(9);
        let empty = whole.split_off(9);
        drop(whole);
        assert_eq!((last[0], empty.len()), (7, 0));
    }
}
