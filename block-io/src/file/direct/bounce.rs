//! Memory for bounced parts, used again: bouncing allocates nothing and zeroes nothing.

use core::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::{AlignedBuffer, Alignment};

/// Buffers that are kept: about one for each thread of a busy program.
const KEPT_MAX: usize = 8;

/// Shortest buffer that is made. Most bounced parts are edges and metadata.
const LEN_MIN: usize = 16 << 10;

/// Buffers of one file that wait for their next use.
#[derive(Debug)]
pub(super) struct Bounces {
    alignment: Alignment,
    kept: Mutex<Vec<AlignedBuffer>>,
}

/// A buffer in use. Its bytes are those of an earlier use.
pub(super) struct Bounce<'b> {
    bounces: &'b Bounces,
    /// At least `len` bytes.
    memory: Option<AlignedBuffer>,
    len: usize,
}

impl Bounces {
    pub(super) fn new(alignment: Alignment) -> Self {
        Self { alignment, kept: Mutex::default() }
    }

    /// How many buffers there are that nobody uses: none as long as nothing was bounced.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.lock().map_or(0, |kept| kept.len())
    }

    /// A buffer of `len` bytes, whatever they are.
    pub(super) fn take(&self, len: usize) -> Bounce<'_> {
        let kept = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let index = kept.iter().position(|memory| memory.len() >= len);
            index.map(|index| kept.swap_remove(index))
        };
        let memory = kept.unwrap_or_else(|| {
            AlignedBuffer::zeroed(self.alignment, len.next_power_of_two().max(LEN_MIN))
        });
        Bounce { bounces: self, memory: Some(memory), len }
    }
}

impl Deref for Bounce<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().and_then(|memory| memory.get(..self.len)).unwrap_or_default()
    }
}

impl DerefMut for Bounce<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let memory = self.memory.as_deref_mut();
        memory.and_then(|memory| memory.get_mut(..self.len)).unwrap_or_default()
    }
}

impl Drop for Bounce<'_> {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let mut kept = self.bounces.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(memory);
            return;
        }
        // The larger one serves more requests.
        if let Some(smaller) = kept.iter_mut().find(|kept| kept.len() < memory.len()) {
            *smaller = memory;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let alignment = Alignment::new(512, 4096).unwrap();
        let bounces = Bounces::new(alignment);
        let mut first = bounces.take(1000);
        assert!(alignment.fits_buffer(&first) && first.len() == 1000);
        first.fill(9);
        let address = first.as_ptr();
        drop(first);
        let again = bounces.take(500);
        assert_eq!((again.as_ptr(), again.len()), (address, 500));
        let beside = bounces.take(500);
        assert_ne!(beside.as_ptr(), address);
    }

    #[test]
    fn only_so_many_are_kept() {
        let bounces = Bounces::new(Alignment::NONE);
        let many: Vec<Bounce<'_>> = (1..30).map(|i| bounces.take(i << 10)).collect();
        drop(many);
        let kept = bounces.kept.lock().unwrap();
        assert_eq!(kept.len(), KEPT_MAX);
    }
}
