//! `AlignedBuffer`: bytes in memory whose address fits what a storage asks of buffers.

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::Alignment;

/// Bytes whose address is a multiple of what an [`Alignment`] asks for.
///
/// Requests from and to such a buffer need no bounce on account of its address. Without a
/// requirement it is a plain allocation.
pub struct AlignedBuffer {
    /// Longer than needed by the alignment less one, so that an aligned piece lies inside. Its
    /// length never changes, so the piece never moves.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros at an address that is a multiple of `alignment.memory()`.
    #[must_use]
    pub fn zeroed(alignment: Alignment, len: usize) -> Self {
        let unit = alignment.memory() as usize;
        let memory = vec![0; len + unit - 1];
        let start = memory.as_ptr().addr().wrapping_neg() & (unit - 1);
        Self { memory, start, len }
    }

    /// Makes it the first `len` bytes of itself.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_fits_whatever_is_asked_for() {
        for memory in [1, 2, 512, 4096, 65536] {
            let alignment = Alignment::new(1, memory).unwrap();
            for len in [0, 1, 511, 70_000] {
                let mut buffer = AlignedBuffer::zeroed(alignment, len);
                assert!(alignment.fits_buffer(&buffer), "{len} bytes at {memory}");
                assert_eq!(buffer.len(), len);
                assert!(buffer.iter().all(|&byte| byte == 0));
                buffer.fill(7);
                buffer.truncate(3);
                assert_eq!(buffer[..], [7; 3][..len.min(3)]);
            }
        }
    }
}
