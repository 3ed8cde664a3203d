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

/// Bytes that are written before the medium is asked to begin with them: enough to keep it busy, few
/// enough for it to be done soon after the last one.
const BEGIN_SYNC_BYTES: u64 = 16 << 20;

/// What has been done so far, in bytes.
#[derive(Debug, Default)]
struct Done {
    /// Written since the medium was asked to begin.
    fresh: AtomicU64,
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
        let top = self.target.top();
        let unit = top.image().map_or(1, |image| image.geometry().cluster_bytes());
        Crew::new(self.watch, unit).run(pieces, begin, |hands, piece| {
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
        buf.resize(piece.len as usize, 0); // at most a piece of the crew
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
            self.hand_over(bytes.len() as u64, done);
        }
        Ok(())
    }

    /// Lets the medium begin with what has been written: the flush at the end waits for all of it.
    fn hand_over(&self, written: u64, done: &Done) {
        let fresh = done.fresh.fetch_add(written, Ordering::Relaxed) + written;
        if fresh >= BEGIN_SYNC_BYTES
            && done.fresh.compare_exchange(fresh, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.target.top().data_storage().begin_sync();
        }
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
        let (mut at, mut rest) = (whole, middle);
        while !rest.is_empty() {
            let status = self.target.top_status_at(at, rest.len() as u64)?;
            let (run, others) = rest.split_at(status.len.min(rest.len() as u64) as usize);
            match status.host_offset {
                // Space that is reserved already would be wasted.
                Some(_) => self.target.write_at(at, run)?,
                None => self.target.write_compressed_at(with, at, run)?,
            }
            (at, rest) = (at + run.len() as u64, others);
        }
        if tail.is_empty() { Ok(()) } else { self.target.write_at(behind, tail) }
    }
}
