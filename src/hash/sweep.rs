//! One walk over the disk: what holds data is found in order, read and hashed on all cores.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use chain::Chain;
use rayon::prelude::*;

use super::range::{RangeBytes, RangeHash};
use super::tree::{Tree, Zeros, leaf};
use super::{BLOCK_BYTES, Digest, GuestHash, HashError};
use crate::zeros::is_zero;

/// How to hash. The callbacks run on the calling thread.
#[derive(Default)]
pub struct HashOptions<'a> {
    /// Tells the hashes of ranges of this length, in order, those of zeros left out.
    pub ranges: Option<RangeBytes>,
    /// Who is told.
    pub on_range: Option<&'a mut dyn FnMut(RangeHash)>,
    /// Told now and then how many guest bytes are behind us.
    pub progress: Option<&'a mut dyn FnMut(u64)>,
}

impl fmt::Debug for HashOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashOptions").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

/// Largest piece, and what pieces are aligned to: the largest cluster, so that none is ever
/// decompressed twice. Each thread keeps one in memory.
const PIECE_BYTES: u64 = 2 << 20;
/// Pieces for each thread between two steps of sequential work.
const PIECES_PER_THREAD: usize = 8;

/// Blocks to read.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    /// At most [`PIECE_BYTES`]; less than whole blocks only at the end of the disk.
    len: u64,
}

/// Hashes what a guest sees, in whatever rayon pool the caller is in. Memory: 2 MiB for each of its
/// threads, whatever the size of the disk.
///
/// ```
/// use qimg::chain::{Chain, Format, OpenOptions};
/// use qimg::create::{CreateOptions, create};
/// use qimg::hash::{HashOptions, hash};
///
/// let folder = tempfile::tempdir()?;
/// let mut hashes = Vec::new();
/// for format in [Format::Raw, Format::Qcow2] {
///     let path = folder.path().join(format.name());
///     create(&path, &CreateOptions::new(format, 1 << 20))?;
///     let chain = Chain::open(&path, &OpenOptions::new().format(format))?;
///     chain.write_at(4096, b"the same bytes")?;
///     hashes.push(hash(&chain, HashOptions::default())?.hash);
/// }
/// assert_eq!(hashes[0], hashes[1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The image could not be read.
pub fn hash(chain: &Chain, options: HashOptions<'_>) -> Result<GuestHash, HashError> {
    let zeros = Zeros::new();
    let mut sink = |_: RangeHash| {};
    let on_range = options.on_range.unwrap_or(&mut sink);
    let mut silent = |_: u64| {};
    let progress = options.progress.unwrap_or(&mut silent);
    let mut tree = Tree::new(&zeros, options.ranges);
    let mut finder = Finder { chain, at: 0, read_before: 0 };
    let mut bytes_read = 0;
    let mut batch = finder.batch()?;
    while !batch.is_empty() {
        // What comes next is looked up while this batch is hashed.
        let (next, leaves) = rayon::join(|| finder.batch(), || hash_pieces(chain, &zeros, &batch));
        for (piece, leaves) in batch.iter().zip(leaves) {
            let skipped = piece.start / BLOCK_BYTES - tree.blocks();
            tree.push_zeros(skipped, on_range);
            leaves?.into_iter().for_each(|leaf| tree.push(leaf, on_range));
            bytes_read += piece.len;
        }
        let behind = batch.last().map_or(0, |piece| piece.start + piece.len);
        progress(behind);
        batch = next?;
    }
    let content = tree.finish(on_range);
    progress(chain.virtual_size());
    Ok(GuestHash::new(content, chain.virtual_size(), bytes_read))
}

/// Finds the blocks that must be read.
struct Finder<'a> {
    chain: &'a Chain,
    /// Everything before is known.
    at: u64,
    /// Blocks before this byte are in a piece already.
    read_before: u64,
}

impl Finder<'_> {
    /// The next pieces; empty at the end of the disk.
    fn batch(&mut self) -> Result<Vec<Piece>, HashError> {
        let most = PIECES_PER_THREAD * rayon::current_num_threads();
        let end = self.chain.virtual_size();
        let mut pieces = Vec::with_capacity(most);
        while self.at < end && pieces.len() < most {
            let offset = self.at;
            let status = self
                .chain
                .status_at(offset, end - offset)
                .map_err(|source| HashError::Status { offset, source: Arc::new(source) })?;
            let len = status.len.clamp(1, end - offset);
            if status.zero {
                self.at += len;
                continue;
            }
            // A long run is asked about again when its first pieces are behind us.
            let run_end = (offset + len).min(self.add(&mut pieces, offset + len, most));
            self.at = run_end;
        }
        Ok(pieces)
    }

    /// Adds the blocks from where we are up to `run_end`, as long as there is room. Returns the end of
    /// what was added.
    fn add(&mut self, pieces: &mut Vec<Piece>, run_end: u64, most: usize) -> u64 {
        let end = self.chain.virtual_size();
        let mut start = (self.at - self.at % BLOCK_BYTES).max(self.read_before);
        while start < run_end {
            let piece_end = start - start % PIECE_BYTES + PIECE_BYTES;
            let blocks_end = run_end.next_multiple_of(BLOCK_BYTES);
            let stop = piece_end.min(blocks_end).min(end);
            let is_full = pieces.len() == most;
            match pieces.last_mut() {
                // Small runs beside each other are one request.
                Some(last)
                    if last.start + last.len == start && !start.is_multiple_of(PIECE_BYTES) =>
                {
                    last.len += stop - start;
                }
                _ if is_full => return start,
                _ => pieces.push(Piece { start, len: stop - start }),
            }
            start = stop;
            self.read_before = stop;
        }
        run_end
    }
}

fn hash_pieces(
    chain: &Chain,
    zeros: &Zeros,
    pieces: &[Piece],
) -> Vec<Result<Vec<Digest>, HashError>> {
    pieces.par_iter().map(|piece| piece.hash(chain, zeros)).collect()
}

thread_local! {
    /// Buffer of a worker, kept between pieces.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Piece {
    fn hash(&self, chain: &Chain, zeros: &Zeros) -> Result<Vec<Digest>, HashError> {
        BUFFER.with_borrow_mut(|buffer| {
            let whole = self.len.next_multiple_of(BLOCK_BYTES) as usize; // at most PIECE_BYTES
            if buffer.len() < whole {
                buffer.resize(whole, 0);
            }
            let (read, rest) = buffer[..whole].split_at_mut(self.len as usize);
            chain.read_at(self.start, read).map_err(|source| HashError::Read {
                offset: self.start,
                source: Arc::new(source),
            })?;
            rest.fill(0);
            let digest = |block: &[u8]| if is_zero(block) { zeros.leaf() } else { leaf(block) };
            Ok(buffer[..whole].chunks_exact(BLOCK_BYTES as usize).map(digest).collect())
        })
    }
}

#[cfg(test)]
mod tests;
