//! The writing end of a pipe: large writes, however small the pieces are.

use std::io::Write;
use std::sync::Arc;

use super::StreamError;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
static ZEROS: [u8; BUFFER_BYTES] = [0; BUFFER_BYTES];

/// Where the bytes go, and how many went there.
pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    buffer: Vec<u8>,
    written: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to, buffer: Vec::with_capacity(BUFFER_BYTES), written: 0 }
    }

    /// Bytes that were taken so far, those in the buffer included.
    pub(super) fn written(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn word(&mut self, word: u64) -> Result<(), StreamError> {
        self.bytes(&word.to_be_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let is_large = bytes.len() > BUFFER_BYTES / 2;
        if is_large || self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.finish()?;
        }
        if is_large {
            return self.pass_on(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn zeros(&mut self, len: u64) -> Result<(), StreamError> {
        let mut left = len;
        while left > 0 {
            let now = left.min(BUFFER_BYTES as u64);
            self.bytes(&ZEROS[..now as usize])?;
            left -= now;
        }
        Ok(())
    }

    /// Goes on to `end` with zeros; nothing to do where that lies behind us.
    pub(super) fn zeros_up_to(&mut self, end: u64) -> Result<(), StreamError> {
        self.zeros(end.saturating_sub(self.written()))
    }

    /// Writes what was gathered.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let passed_on = self.pass_on(&buffer);
        buffer.clear();
        self.buffer = buffer;
        passed_on
    }

    /// Writes bytes past the buffer, which is empty.
    fn pass_on(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let offset = self.written;
        self.to
            .write_all(bytes)
            .map_err(|source| StreamError::Output { offset, source: Arc::new(source) })?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_their_order_whatever_their_number() {
        const HALF: usize = BUFFER_BYTES / 2;
        let lengths = [3, HALF + 1, 1, HALF, HALF, 7, BUFFER_BYTES, 0, 2 * BUFFER_BYTES, 5];
        let mut came = Vec::new();
        let mut out = Output::new(&mut came);
        let mut expected = Vec::new();
        for (len, byte) in lengths.into_iter().zip(1..) {
            out.bytes(&vec![byte; len]).unwrap();
            expected.resize(expected.len() + len, byte);
            out.zeros(len as u64).unwrap();
            expected.resize(expected.len() + len, 0);
        }
        assert_eq!(out.written(), expected.len() as u64);
        out.finish().unwrap();
        assert!(came == expected);
    }
}
