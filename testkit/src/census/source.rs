//! `Source`: where the bytes of an image come from.

use block_io::{MemoryStorage, StorageExt as _};

/// Bytes of an image, wherever they are.
pub trait Source {
    /// The bytes from `at` on; zeros past the end.
    fn fetch(&self, at: u64, buf: &mut [u8]);

    /// How many bytes there are.
    fn bytes(&self) -> u64;
}

impl Source for [u8] {
    fn fetch(&self, at: u64, buf: &mut [u8]) {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let found = rest.len().min(buf.len());
        buf[..found].copy_from_slice(&rest[..found]);
        buf[found..].fill(0);
    }

    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl Source for Vec<u8> {
    fn fetch(&self, at: u64, buf: &mut [u8]) {
        self.as_slice().fetch(at, buf);
    }

    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl Source for MemoryStorage {
    fn fetch(&self, at: u64, buf: &mut [u8]) {
        // What lies behind every possible position is past the end, too.
        if self.read_zero_filled(at, buf).is_err() {
            buf.fill(0);
        }
    }

    fn bytes(&self) -> u64 {
        block_io::Storage::len(self).unwrap()
    }
}
