//! Reading ahead: several pieces at the same time, handed on in their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Action, Source, StreamError};
use crate::convert::ConvertError;
use crate::convert::plan::Piece;

/// Unit in which unreadable places are narrowed down.
const SALVAGE_BYTES: usize = 512;

/// How a disk is read.
pub(super) struct Ahead<'a> {
    pub(super) source: &'a Source<'a>,
    /// Pieces read at the same time.
    pub(super) readers: usize,
    /// Whether what cannot be read becomes zeros.
    pub(super) salvage: bool,
}

/// Bytes read, and those among them that could not be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) read: u64,
    pub(super) unreadable: u64,
}

/// A piece that was read, or why it could not be.
struct Load {
    sequence: u64,
    piece: Result<Piece, ConvertError>,
    bytes: Vec<u8>,
}

/// What becomes of a piece and its bytes.
type Each<'a> = dyn FnMut(Piece, &[u8]) -> Result<(), StreamError> + 'a;

/// A piece to be read: its place in the order, and the piece or why there are no more.
type Job = (u64, Result<Piece, ConvertError>);

impl Ahead<'_> {
    /// Shows all pieces to `each`, in order, with their bytes; pieces of zeros have none. The first
    /// failure, in this order, ends it.
    pub(super) fn run(
        &self,
        pieces: impl Iterator<Item = Result<Piece, ConvertError>> + Send,
        each: &mut Each<'_>,
    ) -> Result<Totals, StreamError> {
        let readers = self.readers.max(1);
        let unreadable = AtomicU64::new(0);
        // Whoever takes a piece holds a buffer already, so that the piece that is next can always
        // make progress.
        let (give, take) = bounded::<Vec<u8>>(readers * 2);
        for _ in 0..readers * 2 {
            let _ = give.send(Vec::new());
        }
        let (jobs, jobs_in) = bounded::<Job>(readers * 2);
        let (loads, loads_in) = bounded::<Load>(readers * 2);
        thread::scope(|scope| {
            for _ in 0..readers {
                let (take, jobs_in, loads) = (take.clone(), jobs_in.clone(), loads.clone());
                let unreadable = &unreadable;
                scope.spawn(move || self.reader(&take, &jobs_in, &loads, unreadable));
            }
            scope.spawn(move || {
                for job in (0..).zip(pieces) {
                    let last = job.1.is_err();
                    if jobs.send(job).is_err() || last {
                        break;
                    }
                }
            });
            // The ends that only the readers may hold: when those are gone, everybody leaves.
            drop((take, jobs_in, loads));
            let handed_on = hand_on(loads_in, &give, each);
            // After a failure readers may wait for a buffer that nobody gives back any more.
            drop(give);
            handed_on
        })
        .map(|read| Totals { read, unreadable: unreadable.into_inner() })
    }

    fn reader(
        &self,
        take: &Receiver<Vec<u8>>,
        jobs: &Receiver<Job>,
        loads: &Sender<Load>,
        unreadable: &AtomicU64,
    ) {
        while let Ok(mut bytes) = take.recv()
            && let Ok((sequence, piece)) = jobs.recv()
        {
            let piece = piece.and_then(|piece| self.fetch(piece, &mut bytes, unreadable));
            if loads.send(Load { sequence, piece, bytes }).is_err() {
                return;
            }
        }
    }

    fn fetch(
        &self,
        piece: Piece,
        bytes: &mut Vec<u8>,
        unreadable: &AtomicU64,
    ) -> Result<Piece, ConvertError> {
        if piece.action == Action::Zero {
            return Ok(piece);
        }
        bytes.resize(piece.len as usize, 0); // at most a piece, or a cluster
        match self.source.read_at(piece.offset, bytes) {
            Ok(()) => Ok(piece),
            Err(_) if self.salvage => {
                for (index, block) in bytes.chunks_mut(SALVAGE_BYTES).enumerate() {
                    let at = piece.offset + (index * SALVAGE_BYTES) as u64;
                    if self.source.read_at(at, block).is_err() {
                        block.fill(0);
                        unreadable.fetch_add(block.len() as u64, Ordering::Relaxed);
                    }
                }
                Ok(piece)
            }
            Err(source) => {
                Err(ConvertError::Read { offset: piece.offset, source: Arc::new(source) })
            }
        }
    }
}

/// Puts pieces back into their order and shows them; returns how many bytes were read.
fn hand_on(
    loads: Receiver<Load>,
    give: &Sender<Vec<u8>>,
    each: &mut Each<'_>,
) -> Result<u64, StreamError> {
    let mut early = BTreeMap::new();
    let (mut next, mut read) = (0, 0);
    for load in loads {
        early.insert(load.sequence, load);
        while let Some(load) = early.remove(&next) {
            next += 1;
            let piece = load.piece?;
            let bytes = if piece.action == Action::Copy { &load.bytes[..] } else { &[] };
            each(piece, bytes)?;
            read += bytes.len() as u64;
            // Towards the end there are no readers left to take it.
            let _ = give.send(load.bytes);
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_wait_for_a_buffer_leave_with_a_failure() {
        let source = Source::new(&[]);
        let ahead = Ahead { source: &source, readers: 1, salvage: false };
        for _ in 0..100 {
            let (pulled, pulls) = bounded(16);
            let pieces = (0..16).map(move |index| {
                let _ = pulled.send(());
                Ok(Piece { offset: index, len: 1, action: Action::Zero })
            });
            let failed = ahead.run(pieces, &mut |_, _| {
                // Two buffers are used up, two pieces wait for a reader, one for a place among them.
                assert!((0..5).all(|_| pulls.recv().is_ok()));
                Err(StreamError::ExternalData)
            });
            assert!(matches!(failed, Err(StreamError::ExternalData)));
        }
    }
}
