//! A file that is only read, and only so much of it, for so long.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block_io::{Alignment, Error, Extent, FileId, FileStorage, Lock, Operation, Result, Storage};

use super::Amount;

/// A file that is only read, and only so much of it, for so long. Then every read fails.
#[derive(Debug)]
pub(super) struct Bounded {
    file: FileStorage,
    bytes: AtomicU64,
    bytes_max: u64,
    start: Instant,
    time_max: Duration,
    exhausted: OnceLock<Amount>,
}

impl Bounded {
    pub(super) fn new(file: FileStorage, bytes_max: u64, seconds_max: u64) -> Self {
        let (start, time_max) = (Instant::now(), Duration::from_secs(seconds_max));
        let (bytes, exhausted) = (AtomicU64::new(0), OnceLock::new());
        Self { file, bytes, bytes_max, start, time_max, exhausted }
    }

    /// What ran out first, if anything did.
    pub(super) fn exhausted(&self) -> Option<Amount> {
        self.exhausted.get().copied()
    }

    /// Whether so many bytes may be read yet.
    fn admit(&self, offset: u64, len: usize) -> Result<()> {
        let len = len as u64;
        let before = self.bytes.fetch_add(len, Ordering::Relaxed);
        let amount = if before.saturating_add(len) > self.bytes_max {
            Amount::ReadBytes
        } else if self.start.elapsed() > self.time_max {
            Amount::Seconds
        } else {
            return Ok(());
        };
        self.exhausted.get_or_init(|| amount);
        let why = io::Error::new(io::ErrorKind::TimedOut, "the audit may take no more");
        Err(Error::io(Operation::Read, offset, len, why))
    }
}

const fn refuse<T>(operation: Operation) -> Result<T> {
    Err(Error::ReadOnly { operation })
}

impl Storage for Bounded {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.admit(offset, buf.len())?;
        self.file.read_at(offset, buf)
    }
    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        self.admit(offset, bufs.iter().map(|buf| buf.len()).sum())?;
        self.file.read_vectored_at(offset, bufs)
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        refuse(Operation::Write)
    }
    fn write_vectored_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<()> {
        refuse(Operation::Write)
    }
    fn write_zeroes_at(&self, _: u64, _: u64) -> Result<()> {
        refuse(Operation::WriteZeroes)
    }
    fn punch_hole(&self, _: u64, _: u64) -> Result<bool> {
        refuse(Operation::PunchHole)
    }
    fn allocate(&self, _: u64, _: u64) -> Result<()> {
        refuse(Operation::Allocate)
    }
    fn set_len(&self, _: u64) -> Result<()> {
        refuse(Operation::SetLen)
    }
    fn sync(&self) -> Result<()> {
        refuse(Operation::Sync)
    }
    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.file.extent_at(offset)
    }
    fn allocated_bytes(&self) -> Result<u64> {
        self.file.allocated_bytes()
    }
    fn alignment(&self) -> Alignment {
        self.file.alignment()
    }
    fn identity(&self) -> Result<Option<FileId>> {
        self.file.identity()
    }
    fn forget_cached(&self, _offset: u64, _len: u64) {}
    fn begin_sync(&self) {}
    fn modified(&self) -> Result<Option<i64>> {
        self.file.modified()
    }
    fn is_read_only(&self) -> bool {
        true
    }
    fn lock(&self, lock: Lock) -> Result<()> {
        self.file.lock(lock)
    }
}
