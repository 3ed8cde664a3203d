//! Numbers from the front of an input; when it is used up, they are zeros.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// Up to `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn word<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes(N);
        let mut word = [0; N];
        word[..bytes.len()].copy_from_slice(bytes);
        word
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.word())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.word())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.word())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.word())
    }

    /// Whether anything is left.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
