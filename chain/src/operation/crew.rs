//! `Crew`: the threads that work on pieces of a disk. One cuts the work into pieces, the others take
//! them; pieces do not overlap, so they may be done in any order.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::watch::Watch;
use crate::error::{Error, Result};

/// Most bytes of a piece, unless the target's clusters are larger: enough for one call to be worth its
/// while, few enough to stay in the caches between reading and writing. Pieces end at multiples of it, so
/// that whole clusters are written at once.
const PIECE_BYTES: u64 = 512 << 10;
/// More threads than this only wait for the host.
const THREADS_MAX: usize = 8;

/// A range of the disk and what has to happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) action: Action,
}

/// What has to happen to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its data is read, and perhaps written elsewhere; the number says where it comes from.
    Data(usize),
    /// It is made to read as zeros.
    Zero,
}

/// Threads that share some work.
pub(crate) struct Crew<'w> {
    watch: Watch<'w>,
    piece_bytes: u64,
    failure: Mutex<Option<Error>>,
}

impl<'w> Crew<'w> {
    /// Threads whose pieces end at borders of units of so many bytes, a power of two.
    pub(crate) fn new(watch: Watch<'w>, unit: u64) -> Self {
        Self { watch, piece_bytes: PIECE_BYTES.max(unit), failure: Mutex::new(None) }
    }

    /// Hands all pieces to `work`, each on some thread with a state of its own that `begin` made.
    ///
    /// # Errors
    /// The first failure, or [`Error::Cancelled`]; pieces may then be done or not.
    pub(crate) fn run<S>(
        self,
        pieces: impl Iterator<Item = Result<Piece>>,
        begin: impl Fn() -> Result<S> + Sync,
        work: impl Fn(&mut S, Piece) -> Result<()> + Sync,
    ) -> Result<()> {
        // At least two: one reads while the host lets only one write to a file.
        let cores = thread::available_parallelism().map_or(2, core::num::NonZero::get);
        let threads = cores.clamp(2, THREADS_MAX);
        let (give, take) = bounded(threads * 4);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (take, crew, begin, work) = (take.clone(), &self, &begin, &work);
                scope.spawn(move || crew.note(crew.take_turns(&take, begin, work)));
            }
            // When all of them have left, nobody takes what is given any more.
            drop(take);
            self.note(self.hand_out(pieces, &give));
            drop(give);
        });
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Cuts the pieces small enough and hands them out.
    fn hand_out(
        &self,
        pieces: impl Iterator<Item = Result<Piece>>,
        give: &Sender<Piece>,
    ) -> Result<()> {
        for piece in pieces {
            let mut piece = piece?;
            while piece.len > 0 {
                self.watch.check()?;
                let len = match piece.action {
                    Action::Zero => piece.len,
                    Action::Data(_) => {
                        (self.piece_bytes - piece.offset % self.piece_bytes).min(piece.len)
                    }
                };
                if self.has_failed() || give.send(Piece { len, ..piece }).is_err() {
                    return Ok(());
                }
                piece.offset += len;
                piece.len -= len;
            }
        }
        Ok(())
    }

    fn take_turns<S>(
        &self,
        take: &Receiver<Piece>,
        begin: &(impl Fn() -> Result<S> + Sync),
        work: &(impl Fn(&mut S, Piece) -> Result<()> + Sync),
    ) -> Result<()> {
        let mut state = begin()?;
        while let Ok(piece) = take.recv() {
            if self.has_failed() {
                return Ok(());
            }
            self.watch.check()?;
            work(&mut state, piece)?;
        }
        Ok(())
    }

    /// Keeps the first failure.
    fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
        }
    }

    fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
