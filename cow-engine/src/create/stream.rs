//! Writing tables from front to back, in large pieces, generated on the fly.

use block_io::Storage;

use crate::error::{Error, Purpose, Result};

/// Bytes written at once: large enough for any disk, and all the memory that is used.
const BUFFER_BYTES: usize = 2 << 20;

/// A place in the file that moves on with what is written.
pub(super) struct Stream<'a> {
    storage: &'a dyn Storage,
    /// Whether bytes that are left out read as zeros: the file is new.
    is_sparse: bool,
    /// Where the first byte of the buffer goes.
    at: u64,
    buffer: Vec<u8>,
}

impl<'a> Stream<'a> {
    /// Starts at `at`.
    pub(super) fn new(storage: &'a dyn Storage, is_sparse: bool, at: u64) -> Self {
        Self { storage, is_sparse, at, buffer: Vec::new() }
    }

    /// Appends big-endian words: `word(0)` up to `word(count - 1)`.
    pub(super) fn words(
        &mut self,
        purpose: Purpose,
        count: u64,
        mut word: impl FnMut(u64) -> u64,
    ) -> Result<()> {
        let mut next = 0;
        while next < count {
            let room = (BUFFER_BYTES - self.buffer.len()) / 8;
            let now = (count - next).min(room as u64);
            let start = self.buffer.len();
            self.buffer.resize(start + now as usize * 8, 0);
            for (slot, index) in self.buffer[start..].chunks_exact_mut(8).zip(next..) {
                slot.copy_from_slice(&word(index).to_be_bytes());
            }
            next += now;
            self.flush_if_full(purpose)?;
        }
        Ok(())
    }

    /// Appends `bytes`, at most a cluster of them.
    pub(super) fn bytes(&mut self, purpose: Purpose, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.finish(purpose)?;
        }
        self.buffer.extend_from_slice(bytes);
        self.flush_if_full(purpose)
    }

    /// Goes on to `end`; what lies between reads as zeros.
    pub(super) fn zeros_up_to(&mut self, purpose: Purpose, end: u64) -> Result<()> {
        self.finish(purpose)?;
        if !self.is_sparse {
            let storage = Error::storage(purpose);
            self.storage.write_zeroes_at(self.at, end.saturating_sub(self.at)).map_err(storage)?;
        }
        self.at = end;
        Ok(())
    }

    fn flush_if_full(&mut self, purpose: Purpose) -> Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.finish(purpose) } else { Ok(()) }
    }

    /// Writes what is in the buffer.
    pub(super) fn finish(&mut self, purpose: Purpose) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.storage.write_at(self.at, &self.buffer).map_err(Error::storage(purpose))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes real zeros, which makes the host give space that is not just promised.
pub(super) fn write_zeros(storage: &dyn Storage, offset: u64, len: u64) -> Result<()> {
    let zeros = vec![0; len.min(BUFFER_BYTES as u64) as usize];
    let mut done = 0;
    while done < len {
        let now = (len - done).min(BUFFER_BYTES as u64);
        storage
            .write_at(offset + done, &zeros[..now as usize])
            .map_err(Error::storage(Purpose::Data))?;
        done += now;
    }
    Ok(())
}
