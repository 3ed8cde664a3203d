//! A pipe as storage: read once and forwards, with a bounded file for what is needed later.
//!
//! What a reader skips goes into that file, since it may be asked for afterwards; what it was given
//! does not, since an image is read once. Compressed clusters share sectors with their neighbours, so
//! the last bytes given are kept in memory, and the first ones of such a cluster in the file.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_io::{Alignment, Error, Extent, FileId, Lock, Operation, Result, Storage};

use super::StreamError;
use super::raw_in::fill;

/// Last bytes given that can be asked for again: more than the sector that two clusters share.
const TAIL_BYTES: usize = 4096;
/// What compressed clusters can share, in bytes.
const SECTOR_BYTES: usize = 512;
/// Bytes skipped at once.
const SKIP_BYTES: usize = 256 << 10;
/// The length of a pipe that has not ended.
const UNKNOWN_BYTES: u64 = i64::MAX as u64;

/// Where bytes go that cannot be placed yet.
pub struct Spill {
    limit: u64,
    make: Box<dyn FnMut() -> io::Result<File> + Send>,
}

impl Spill {
    /// At most `limit` bytes, in a file that `make` opens when it is first needed; nobody else should
    /// be able to reach it.
    pub fn new(limit: u64, make: impl FnMut() -> io::Result<File> + Send + 'static) -> Self {
        Self { limit, make: Box::new(make) }
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The storage.
pub(super) struct Forward(Mutex<State>);

struct State {
    input: Box<dyn Read + Send>,
    /// Bytes that came so far.
    at: u64,
    ended: bool,
    /// The last bytes given, up to `at`.
    tail: Vec<u8>,
    /// Whether what is given goes into the file as well.
    keeping: bool,
    spill: Spill,
    file: Option<File>,
    /// What lies in the file, at the offsets of the pipe: ascending, apart from each other.
    spilled: Vec<(u64, u64)>,
    spilled_bytes: u64,
    /// The first failure, in more words than storage has.
    failure: Option<StreamError>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Forward {
    /// Keeps everything it gives until it is told otherwise.
    pub(super) fn new(input: Box<dyn Read + Send>, spill: Spill) -> Self {
        Self(Mutex::new(State {
            input,
            at: 0,
            ended: false,
            tail: Vec::new(),
            keeping: true,
            spill,
            file: None,
            spilled: Vec::new(),
            spilled_bytes: 0,
            failure: None,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything that is given is asked for once.
    pub(super) fn stop_keeping(&self) {
        self.state().keeping = false;
    }

    /// Keeps the last sector that was given: the next compressed cluster may begin in it, and nobody
    /// knows when it is its turn.
    pub(super) fn keep_last_sector(&self) -> std::result::Result<(), StreamError> {
        let mut state = self.state();
        let tail = std::mem::take(&mut state.tail);
        let kept = state.spilled.last().map_or(0, |(_, end)| *end);
        let fresh = (state.at - kept.min(state.at)).min(SECTOR_BYTES.min(tail.len()) as u64);
        let start = state.at - fresh;
        let done = state.keep(start, &tail[tail.len() - fresh as usize..]);
        state.tail = tail;
        done
    }

    /// Bytes that came so far.
    pub(super) fn position(&self) -> u64 {
        self.state().at
    }

    /// How many bytes there were, once the end was met.
    pub(super) fn end(&self) -> Option<u64> {
        let state = self.state();
        state.ended.then_some(state.at)
    }

    /// Why the storage failed, if it did.
    pub(super) fn failure(&self) -> Option<StreamError> {
        self.state().failure.clone()
    }

    /// Reads to the end, so that whoever writes is not cut off.
    pub(super) fn drain(&self) -> std::result::Result<(), StreamError> {
        let mut state = self.state();
        let mut buffer = vec![0; SKIP_BYTES];
        while !state.ended {
            state.next(&mut buffer)?;
        }
        Ok(())
    }
}

impl State {
    /// The next bytes of the pipe; fewer only at its end.
    fn next(&mut self, into: &mut [u8]) -> std::result::Result<usize, StreamError> {
        let found = fill(&mut *self.input, into, self.at)?;
        self.ended |= found < into.len();
        self.at += found as u64;
        let given = &into[..found];
        let fresh = &given[found.saturating_sub(TAIL_BYTES)..];
        self.tail.extend_from_slice(fresh);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        Ok(found)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> std::result::Result<usize, StreamError> {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let found = if at < self.at {
                let here = (self.at - at).min((into.len() - done) as u64) as usize;
                self.again(at, &mut into[done..done + here])?
            } else {
                self.skip_to(at)?;
                let start = self.at;
                if start < at {
                    return Ok(done);
                }
                let found = self.next(&mut into[done..])?;
                let given = &into[done..done + found];
                if self.keeping {
                    self.keep(start, given)?;
                } else {
                    // Only compressed clusters begin inside a sector, and share it with another one
                    // that ends there.
                    let shared = start.next_multiple_of(SECTOR_BYTES as u64) - start;
                    self.keep(start, &given[..given.len().min(shared as usize)])?;
                }
                if found < into.len() - done {
                    return Ok(done + found);
                }
                found
            };
            done += found;
        }
        Ok(done)
    }

    /// Bytes that came before, as many as lie in one place.
    fn again(&mut self, at: u64, into: &mut [u8]) -> std::result::Result<usize, StreamError> {
        let tail_start = self.at - self.tail.len() as u64;
        if let Some(skip) = at.checked_sub(tail_start) {
            let found = &self.tail[skip as usize..];
            let len = found.len().min(into.len());
            into[..len].copy_from_slice(&found[..len]);
            return Ok(len);
        }
        let behind = self.spilled.partition_point(|(start, _)| *start <= at);
        let run = behind.checked_sub(1).and_then(|index| self.spilled.get(index));
        let end = run.map(|(_, end)| *end).filter(|end| *end > at);
        let (Some(end), Some(file)) = (end, &self.file) else {
            return Err(StreamError::Again { offset: at });
        };
        let len = into.len().min((end - at) as usize);
        file.read_exact_at(&mut into[..len], at).map_err(spill_failed)?;
        Ok(len)
    }

    /// Goes on to `end`, or to where the pipe ends, and keeps what lies between.
    fn skip_to(&mut self, end: u64) -> std::result::Result<(), StreamError> {
        let mut buffer = Vec::new();
        while self.at < end && !self.ended {
            let start = self.at;
            buffer.resize((end - start).min(SKIP_BYTES as u64) as usize, 0);
            let found = self.next(&mut buffer)?;
            self.keep(start, &buffer[..found])?;
        }
        Ok(())
    }

    fn keep(&mut self, start: u64, bytes: &[u8]) -> std::result::Result<(), StreamError> {
        let (len, allowed) = (bytes.len() as u64, self.spill.limit);
        if len == 0 {
            return Ok(());
        }
        self.spilled_bytes += len;
        if self.spilled_bytes > allowed {
            return Err(StreamError::SpillFull { allowed });
        }
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert((self.spill.make)().map_err(spill_failed)?),
        };
        // At its own offset: the file has holes where nothing was kept.
        file.write_all_at(bytes, start).map_err(spill_failed)?;
        match self.spilled.last_mut() {
            Some((_, end)) if *end == start => *end += len,
            _ => self.spilled.push((start, start + len)),
        }
        Ok(())
    }
}

fn spill_failed(source: io::Error) -> StreamError {
    StreamError::Spill { source: Arc::new(source) }
}

fn read_only<T>(operation: Operation) -> Result<T> {
    Err(Error::ReadOnly { operation })
}

impl Storage for Forward {
    fn len(&self) -> Result<u64> {
        Ok(self.end().unwrap_or(UNKNOWN_BYTES))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let len = buf.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > UNKNOWN_BYTES) {
            return Err(Error::OutOfRange { operation: Operation::Read, offset, len });
        }
        let mut state = self.state();
        state.read(offset, buf).map_err(|failure| {
            let source = io::Error::other(failure.to_string());
            state.failure.get_or_insert(failure);
            Error::io(Operation::Read, offset, len, source)
        })
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let mut done = 0;
        for buf in bufs {
            let found = self.read_at(offset.saturating_add(done as u64), buf)?;
            done += found;
            if found < buf.len() {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        read_only(Operation::Write)
    }

    fn write_vectored_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<()> {
        read_only(Operation::Write)
    }

    fn write_zeroes_at(&self, _: u64, _: u64) -> Result<()> {
        read_only(Operation::WriteZeroes)
    }

    fn punch_hole(&self, _: u64, _: u64) -> Result<bool> {
        read_only(Operation::PunchHole)
    }

    fn allocate(&self, _: u64, _: u64) -> Result<()> {
        read_only(Operation::Allocate)
    }

    fn set_len(&self, _: u64) -> Result<()> {
        read_only(Operation::SetLen)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        let left = self.len()?.saturating_sub(offset);
        Ok((left > 0).then(|| Extent::data(left)))
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.len()
    }

    fn alignment(&self) -> Alignment {
        Alignment::NONE
    }

    fn identity(&self) -> Result<Option<FileId>> {
        Ok(None)
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    fn begin_sync(&self) {}

    fn modified(&self) -> Result<Option<i64>> {
        Ok(None)
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn lock(&self, _: Lock) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(limit: u64) -> Forward {
        let bytes: Vec<u8> = (0..100_000_u32).map(|index| (index / 7) as u8).collect();
        let spill = Spill::new(limit, tempfile::tempfile);
        Forward::new(Box::new(io::Cursor::new(bytes)), spill)
    }

    fn at(index: usize) -> u8 {
        (index / 7) as u8
    }

    #[test]
    fn what_was_skipped_can_be_read_later_and_what_was_given_cannot() {
        let pipe = pipe(1 << 20);
        pipe.stop_keeping();
        let mut buf = [0; 20_000];
        assert_eq!(pipe.read_at(50_000, &mut buf).unwrap(), 20_000);
        assert_eq!((buf[0], buf[19_999]), (at(50_000), at(69_999)));
        assert_eq!(pipe.read_at(10_000, &mut buf).unwrap(), 20_000);
        assert_eq!((buf[0], buf[19_999]), (at(10_000), at(29_999)));
        // The end of what was given, and on from there.
        assert_eq!(pipe.read_at(69_000, &mut buf).unwrap(), 20_000);
        assert_eq!((buf[0], buf[19_999]), (at(69_000), at(88_999)));
        assert!(pipe.read_at(55_000, &mut buf[..10]).is_err());
        assert!(matches!(pipe.failure(), Some(StreamError::Again { offset: 55_000 })));
    }

    #[test]
    fn the_end_is_known_when_it_is_met() {
        let pipe = pipe(1 << 20);
        let mut buf = [0; 100];
        assert_eq!(pipe.end(), None);
        assert_eq!(pipe.read_at(99_990, &mut buf).unwrap(), 10);
        assert_eq!(pipe.end(), Some(100_000));
        assert_eq!(pipe.read_at(1 << 40, &mut buf).unwrap(), 0);
        assert_eq!(pipe.read_at(0, &mut buf).unwrap(), 100);
    }

    #[test]
    fn the_file_has_a_limit() {
        let pipe = pipe(40_000);
        let mut buf = [0; 100];
        assert!(pipe.read_at(50_000, &mut buf).is_err());
        assert!(matches!(pipe.failure(), Some(StreamError::SpillFull { allowed: 40_000 })));
    }
}
