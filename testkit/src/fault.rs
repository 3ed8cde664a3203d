//! `FaultStorage`: fails the call it is told to fail, and counts all of them.

use core::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use block_io::{Alignment, Error, Extent, FileId, Lock, Operation, Result, Storage};

mod loops;
#[cfg(test)]
mod tests;

pub use loops::fail_each_call;

/// A kind of call to a storage; vectored and flat ones are the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Call {
    /// Asking for the length.
    Len,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Zeroing.
    WriteZeroes,
    /// Punching a hole.
    PunchHole,
    /// Reserving space.
    Allocate,
    /// Cutting or extending.
    SetLen,
    /// Making durable.
    Sync,
    /// Asking for data and holes.
    Extent,
    /// Asking for space in use or identity.
    Attributes,
    /// Taking or dropping locks.
    Lock,
}

impl Call {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 11] = [
        Self::Len,
        Self::Read,
        Self::Write,
        Self::WriteZeroes,
        Self::PunchHole,
        Self::Allocate,
        Self::SetLen,
        Self::Sync,
        Self::Extent,
        Self::Attributes,
        Self::Lock,
    ];

    fn operation(self) -> Operation {
        match self {
            Self::Len => Operation::Len,
            Self::Read => Operation::Read,
            Self::Write => Operation::Write,
            Self::WriteZeroes => Operation::WriteZeroes,
            Self::PunchHole => Operation::PunchHole,
            Self::Allocate => Operation::Allocate,
            Self::SetLen => Operation::SetLen,
            Self::Sync => Operation::Sync,
            Self::Extent => Operation::Extent,
            Self::Attributes => Operation::Attributes,
            Self::Lock => Operation::Lock,
        }
    }
}

/// A set of kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSet(u16);

impl CallSet {
    /// Every call.
    pub const ALL: Self = Self((1 << Call::ALL.len()) - 1);
    /// Calls that change bytes, length or space.
    pub const CHANGES: Self =
        Self::of(&[Call::Write, Call::WriteZeroes, Call::PunchHole, Call::Allocate, Call::SetLen]);
    /// Calls that change something or make it durable.
    pub const CHANGES_AND_SYNCS: Self = Self(Self::CHANGES.0 | Self::of(&[Call::Sync]).0);

    /// The set of `calls`.
    #[must_use]
    pub const fn of(calls: &[Call]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < calls.len() {
            bits |= 1 << calls[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether `call` is in the set.
    #[must_use]
    pub const fn contains(self, call: Call) -> bool {
        self.0 & 1 << call as u8 != 0
    }
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    calls: CallSet,
    nth: u64,
    errno: i32,
    arrives: Arrives,
    lasting: bool,
}

/// What of a failing write, zeroing, punch, reservation or sync reaches the storage all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrives {
    /// Nothing.
    #[default]
    Nothing,
    /// The first half of the range.
    Half,
    /// All but the last sector of 512 bytes, or a part of one: less never arrives in pieces.
    AllButSector,
    /// Everything: only the answer is a failure.
    Everything,
}

/// `EIO` of Linux.
const EIO: i32 = 5;
/// `ENOSPC` of Linux.
const ENOSPC: i32 = 28;

impl Fault {
    /// The `nth` call (from 1) of those in `calls` fails with an input/output error, once, and
    /// without any effect.
    #[must_use]
    pub const fn nth(nth: u64, calls: CallSet) -> Self {
        assert!(nth > 0, "calls are counted from 1");
        Self { calls, nth, errno: EIO, arrives: Arrives::Nothing, lasting: false }
    }

    /// Fails for lack of space instead.
    #[must_use]
    pub const fn no_space(mut self) -> Self {
        self.errno = ENOSPC;
        self
    }

    /// A failing write, zeroing or punch does the first half before it fails.
    #[must_use]
    pub const fn partial(self) -> Self {
        self.arriving(Arrives::Half)
    }

    /// A failing call does this much before it fails.
    #[must_use]
    pub const fn arriving(mut self, arrives: Arrives) -> Self {
        self.arrives = arrives;
        self
    }

    /// Every later call of the set fails too: the disk is gone.
    #[must_use]
    pub const fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }
}

/// How often each kind of call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    calls: [u64; Call::ALL.len()],
    /// Bytes that reads were asked for.
    pub read_bytes: u64,
    /// Bytes that writes were asked for.
    pub written_bytes: u64,
}

impl Counts {
    /// Calls of one kind.
    #[must_use]
    pub fn of(&self, call: Call) -> u64 {
        self.calls[call as usize]
    }

    /// Calls of all kinds in `calls`.
    #[must_use]
    pub fn within(&self, calls: CallSet) -> u64 {
        Call::ALL.into_iter().filter(|&call| calls.contains(call)).map(|call| self.of(call)).sum()
    }
}

impl fmt::Display for Counts {
    /// The kinds that occurred, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in Call::ALL.into_iter().filter(|&call| self.of(call) > 0) {
            write!(f, "{call:?} {}, ", self.of(call))?;
        }
        write!(f, "{} bytes read, {} written", self.read_bytes, self.written_bytes)
    }
}

/// A storage around another one. It passes every call on, counts it, and fails those that it was
/// told to fail. Without a fault it is a counter and nothing else.
#[derive(Debug)]
pub struct FaultStorage<S> {
    inner: S,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    fault: Option<Armed>,
    fired: u64,
    first: Option<Call>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
}

/// What a call that was told to fail does first.
struct Failure {
    error: Error,
    arrives: Arrives,
}

impl<S> FaultStorage<S> {
    /// Passes everything on to `inner` until told otherwise.
    pub fn new(inner: S) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Arms `fault`, which counts calls from now on and replaces an earlier one.
    pub fn arm(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(Armed { fault, seen: 0 });
        state.fired = 0;
        state.first = None;
    }

    /// Lets everything succeed again.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// How often the fault armed last has made a call fail.
    pub fn fired(&self) -> u64 {
        self.state().fired
    }

    /// The first call that the fault armed last has made fail.
    pub fn first_fired(&self) -> Option<Call> {
        self.state().first
    }

    /// What was called since the beginning, or since the last [`reset`](FaultStorage::reset).
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Counts from zero again.
    pub fn reset(&self) {
        self.state().counts = Counts::default();
    }

    /// The storage that calls are passed on to.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the storage back that calls were passed on to.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and decides whether it fails.
    fn enter(&self, call: Call, place: Option<(u64, u64)>) -> Result<(), Failure> {
        let mut state = self.state();
        state.counts.calls[call as usize] += 1;
        let len = place.map_or(0, |(_, len)| len);
        match call {
            Call::Read => state.counts.read_bytes += len,
            Call::Write => state.counts.written_bytes += len,
            _ => {}
        }
        let Some(armed) = state.fault.as_mut().filter(|armed| armed.fault.calls.contains(call))
        else {
            return Ok(());
        };
        armed.seen += 1;
        let fault = armed.fault;
        if armed.seen < fault.nth || armed.seen > fault.nth && !fault.lasting {
            return Ok(());
        }
        state.fired += 1;
        state.first.get_or_insert(call);
        let source = io::Error::from_raw_os_error(fault.errno);
        let error = match place {
            Some((offset, len)) => Error::io(call.operation(), offset, len, source),
            None => Error::host(call.operation(), source),
        };
        Err(Failure { error, arrives: fault.arrives })
    }

    /// Like `enter`, for calls without a place.
    fn ask(&self, call: Call) -> Result<()> {
        self.enter(call, None).map_err(|failure| failure.error)
    }

    /// Like `enter`, for calls that change a range: `part` is run with the length that arrives before
    /// the failure.
    fn change(
        &self,
        call: Call,
        offset: u64,
        len: u64,
        part: impl FnOnce(u64) -> Result<()>,
    ) -> Result<()> {
        self.enter(call, Some((offset, len))).map_err(|failure| {
            let arrived = match failure.arrives {
                Arrives::Nothing => 0,
                Arrives::Half => len / 2,
                Arrives::AllButSector => len.saturating_sub(1) / 512 * 512,
                Arrives::Everything => len,
            };
            if arrived > 0 {
                // The failure that was ordered is the one to report.
                let _ = part(arrived);
            }
            failure.error
        })
    }
}

impl<S: Storage> Storage for FaultStorage<S> {
    fn len(&self) -> Result<u64> {
        self.ask(Call::Len)?;
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let place = Some((offset, buf.len() as u64));
        self.enter(Call::Read, place).map_err(|failure| failure.error)?;
        self.inner.read_at(offset, buf)
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let place = Some((offset, bufs.iter().map(|buf| buf.len() as u64).sum()));
        self.enter(Call::Read, place).map_err(|failure| failure.error)?;
        self.inner.read_vectored_at(offset, bufs)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        let half = |len: u64| self.inner.write_at(offset, &buf[..len as usize]);
        self.change(Call::Write, offset, buf.len() as u64, half)?;
        self.inner.write_at(offset, buf)
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        let whole = bufs.iter().map(|buf| buf.len() as u64).sum();
        let half = |len: u64| {
            let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.inner.write_at(offset, &bytes[..len as usize])
        };
        self.change(Call::Write, offset, whole, half)?;
        self.inner.write_vectored_at(offset, bufs)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        let half = |len| self.inner.write_zeroes_at(offset, len);
        self.change(Call::WriteZeroes, offset, len, half)?;
        self.inner.write_zeroes_at(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        let half = |len| self.inner.punch_hole(offset, len).map(|_| ());
        self.change(Call::PunchHole, offset, len, half)?;
        self.inner.punch_hole(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let half = |len| self.inner.allocate(offset, len);
        self.change(Call::Allocate, offset, len, half)?;
        self.inner.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.enter(Call::SetLen, Some((0, len))).map_err(|failure| failure.error)?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<()> {
        self.enter(Call::Sync, None).map_err(|failure| {
            if failure.arrives == Arrives::Everything {
                let _ = self.inner.sync();
            }
            failure.error
        })?;
        self.inner.sync()
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        self.ask(Call::Extent)?;
        self.inner.extent_at(offset)
    }

    fn allocated_bytes(&self) -> Result<u64> {
        self.ask(Call::Attributes)?;
        self.inner.allocated_bytes()
    }

    fn alignment(&self) -> Alignment {
        self.inner.alignment()
    }

    fn identity(&self) -> Result<Option<FileId>> {
        self.ask(Call::Attributes)?;
        self.inner.identity()
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    /// Cannot fail: whatever goes wrong is told by the sync.
    fn begin_sync(&self) {}

    fn modified(&self) -> Result<Option<i64>> {
        self.ask(Call::Attributes)?;
        self.inner.modified()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn lock(&self, lock: Lock) -> Result<()> {
        self.ask(Call::Lock)?;
        self.inner.lock(lock)
    }
}
