//! `Alignment`: what requests must be multiples of to go to the host without a bounce.

/// What request offsets and lengths, and buffer addresses, should be multiples of, in bytes.
///
/// Both values are powers of two. `1` means "anything goes". Requests that do not obey are
/// still served: the storage bounces them, at the cost of a copy or a read before the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alignment {
    request: u32,
    memory: u32,
}

impl Alignment {
    /// No requirement at all: buffered files and memory.
    pub const NONE: Self = Self { request: 1, memory: 1 };

    /// An alignment of `request` bytes for offsets and lengths and `memory` bytes for buffer
    /// addresses; `None` unless both are powers of two.
    #[must_use]
    pub const fn new(request: u32, memory: u32) -> Option<Self> {
        if request.is_power_of_two() && memory.is_power_of_two() {
            Some(Self { request, memory })
        } else {
            None
        }
    }

    /// What offsets and lengths of requests should be multiples of, in bytes.
    #[must_use]
    pub const fn request(self) -> u32 {
        self.request
    }

    /// What addresses of buffers should be multiples of, in bytes.
    #[must_use]
    pub const fn memory(self) -> u32 {
        self.memory
    }

    /// Whether a request at `offset` for `len` bytes needs no bounce on account of its range.
    #[must_use]
    pub const fn fits_request(self, offset: u64, len: u64) -> bool {
        // A power of two, so the union of the low bits decides for both numbers at once.
        (offset | len) & (self.request as u64 - 1) == 0
    }

    /// Whether `buf` needs no bounce on account of its address.
    #[must_use]
    pub fn fits_buffer(self, buf: &[u8]) -> bool {
        self.fits_address(buf.as_ptr().addr())
    }

    /// Whether a buffer at this address needs no bounce.
    pub(crate) fn fits_address(self, address: usize) -> bool {
        address & (self.memory as usize - 1) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_are_alignments() {
        assert_eq!(Alignment::new(0, 1), None);
        assert_eq!(Alignment::new(512, 48), None);
        let alignment = Alignment::new(512, 4).unwrap();
        assert_eq!((alignment.request(), alignment.memory()), (512, 4));
    }

    #[test]
    fn a_request_fits_when_both_its_ends_do() {
        let alignment = Alignment::new(512, 4).unwrap();
        assert!(alignment.fits_request(1024, 512));
        assert!(!alignment.fits_request(1025, 512));
        assert!(!alignment.fits_request(1024, 511));
        assert!(Alignment::NONE.fits_request(3, 7));
    }

    #[test]
    fn a_buffer_fits_by_its_address() {
        let buf = vec![0u8; 16];
        let alignment = Alignment::new(1, 2).unwrap();
        assert_ne!(alignment.fits_buffer(&buf), alignment.fits_buffer(&buf[1..]));
        assert!(Alignment::NONE.fits_buffer(&buf[1..]));
    }
}
