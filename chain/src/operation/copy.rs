//! `Copy`: moves data into a layer, on all cores.

use core::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use cow_engine::Compressor;

use super::crew::{Action, Crew, Piece};
use super::watch::{Moved, Progress, Watch};
use crate::chain::Chain;
use crate::error::Result;

/// What of a piece has to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    All,
    /// These parts, in bytes from its start; of the others the target shows the same already.
    Parts(Vec<Range<usize>>),
}

/// Fills a buffer with the bytes of a piece, and says what of it has to be written.
pub(crate) type ReadPiece<'c> = dyn Fn(&Piece, &mut [u8]) -> Result<Wanted> + Sync + 'c;

/// Moves data into the top layer of a chain.
pub(crate) struct Copy<'c> {
    pub(crate) target: &'c Chain,
    pub(crate) read: &'c ReadPiece<'c>,
    /// Whole clusters are written compressed.
    pub(crate) compress: bool,
    pub(crate) watch: Watch<'c>,
    /// Bytes of all pieces, as far as anybody knows.
    pub(crate) total: u64,
}

/// What has been done so far, in bytes.
#[derive(Debug, Default)]
struct Done {
    all: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    zeroed: AtomicU64,
}

/// What each thread keeps.
struct Hands {
    buf: Vec<u8>,
    compressor: Option<Compressor>,
}

impl Copy<'_> {
    /// Carries out all pieces. The target is not flushed.
    ///
    /// # Errors
    /// The first failure, or [`Error::Cancelled`](crate::Error::Cancelled); pieces may then be done
    /// or not.
    pub(crate) fn run(&self, pieces: impl Iterator<Item = Result<Piece>>) -> Result<Moved> {
        let done = Done::default();
        self.watch.tell(Progress { done: 0, total: self.total });
        let begin = || {
            let compressor = self.compress.then(|| self.target.compressor()).transpose()?;
            Ok(Hands { buf: Vec::new(), compressor })
        };
        Crew::new(self.watch).run(pieces, begin, |hands, piece| {
            self.carry_out(hands, &piece, &done)?;
            let all = done.all.fetch_add(piece.len, Ordering::Relaxed) + piece.len;
            self.watch.tell(Progress { done: all, total: self.total.max(all) });
            Ok(())
        })?;
        let bytes = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (read, written) = (bytes(&done.read), bytes(&done.written));
        Ok(Moved { read, written, zeroed: bytes(&done.zeroed) })
    }

    fn carry_out(&self, hands: &mut Hands, piece: &Piece, done: &Done) -> Result<()> {
        if piece.action == Action::Zero {
            done.zeroed.fetch_add(piece.len, Ordering::Relaxed);
            return self.target.write_zeroes_at(piece.offset, piece.len, true);
        }
        let Hands { buf, compressor } = hands;
        buf.resize(piece.len as usize, 0); // at most `PIECE_BYTES`
        let wanted = (self.read)(piece, buf)?;
        done.read.fetch_add(piece.len, Ordering::Relaxed);
        let (all, parts) = match wanted {
            Wanted::All => (Some(0..buf.len()), Vec::new()),
            Wanted::Parts(parts) => (None, parts),
        };
        for part in all.into_iter().chain(parts) {
            let at = piece.offset + part.start as u64;
            let Some(bytes) = buf.get(part) else { continue };
            done.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            match compressor {
                None => self.target.write_at(at, bytes)?,
                Some(with) => self.write_compressed(with, at, bytes)?,
            }
        }
        Ok(())
    }

    /// Writes whole clusters compressed, and what remains at both ends as it is.
    fn write_compressed(&self, with: &mut Compressor, at: u64, bytes: &[u8]) -> Result<()> {
        let cluster = self.target.top().image().map_or(1, |top| top.geometry().cluster_bytes());
        let end = at + bytes.len() as u64;
        let whole = at.next_multiple_of(cluster).min(end);
        let behind = match end == self.target.virtual_size() {
            true => end,
            false => (end - end % cluster).max(whole),
        };
        let (head, rest) = bytes.split_at((whole - at) as usize);
        let (middle, tail) = rest.split_at((behind - whole) as usize);
        if !head.is_empty() {
            self.target.write_at(at, head)?;
        }
        if !middle.is_empty() {
            self.target.write_compressed_at(with, whole, middle)?;
        }
        if tail.is_empty() { Ok(()) } else { self.target.write_at(behind, tail) }
    }
}
