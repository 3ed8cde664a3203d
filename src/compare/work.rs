//! One piece of a comparison: which bytes to read, and what they must be.

use std::cell::RefCell;
use std::sync::Arc;

use chain::{Chain, Status};

use super::{CompareError, Side};
use crate::zeros::is_zero;

/// Largest piece: two of them are in memory per thread.
const PIECE_BYTES: u64 = 2 << 20;
/// Differences are told in these units.
const BLOCK_BYTES: usize = 512;

/// What the bytes must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The same in both images.
    Equal,
    /// Zero in this one; the other is known to read as zeros, or ends earlier.
    Zero(Side),
}

/// A run to examine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    offset: u64,
    len: u64,
    expect: Expect,
}

thread_local! {
    /// Buffers of a worker, kept between pieces.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Work {
    /// What a run that both images have demands; nothing if both are known to be zero.
    pub(super) fn between(offset: u64, len: u64, a: &Status, b: &Status) -> Option<Self> {
        let expect = match (a.zero, b.zero) {
            (true, true) => return None,
            (true, false) => Expect::Zero(Side::Second),
            (false, true) => Expect::Zero(Side::First),
            (false, false) => Expect::Equal,
        };
        Some(Self { offset, len, expect })
    }

    /// What a run that only one image has demands.
    pub(super) fn alone(offset: u64, side: Side, status: &Status) -> Option<Self> {
        (!status.zero).then_some(Self { offset, len: status.len, expect: Expect::Zero(side) })
    }

    /// First byte behind the run.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// The run in pieces small enough to be read.
    pub(super) fn pieces(self) -> impl Iterator<Item = Self> {
        (0..self.len.div_ceil(PIECE_BYTES)).map(move |index| {
            let skipped = index * PIECE_BYTES;
            let len = PIECE_BYTES.min(self.len - skipped);
            Self { offset: self.offset + skipped, len, ..self }
        })
    }

    /// First guest byte of the first block that is not as demanded.
    pub(super) fn examine(
        &self,
        first: &Chain,
        second: &Chain,
    ) -> Result<Option<u64>, CompareError> {
        let chain = |side| if side == Side::First { first } else { second };
        BUFFERS.with_borrow_mut(|(a, b)| {
            let block = match self.expect {
                Expect::Zero(side) => {
                    let bytes = self.read(chain(side), side, a)?;
                    bytes.chunks(BLOCK_BYTES).position(|block| !is_zero(block))
                }
                Expect::Equal => {
                    let a = self.read(first, Side::First, a)?;
                    let b = self.read(second, Side::Second, b)?;
                    first_difference(a, b)
                }
            };
            Ok(block.map(|block| self.offset + (block * BLOCK_BYTES) as u64))
        })
    }

    fn read<'b>(
        &self,
        chain: &Chain,
        side: Side,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], CompareError> {
        let len = self.len as usize; // at most PIECE_BYTES
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let read = chain.read_at(self.offset, &mut buffer[..len]);
        read.map_err(|source| CompareError::Read {
            side,
            offset: self.offset,
            source: Arc::new(source),
        })?;
        Ok(&buffer[..len])
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None; // nearly always, and much faster in one go
    }
    a.chunks(BLOCK_BYTES).zip(b.chunks(BLOCK_BYTES)).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(len: u64, zero: bool) -> Status {
        Status {
            len,
            depth: 0,
            present: true,
            zero,
            data: !zero,
            compressed: false,
            host_offset: None,
        }
    }

    #[test]
    fn pieces_cover_the_run() {
        let run = Work::between(7, 5 << 20, &status(5 << 20, false), &status(5 << 20, false));
        let pieces: Vec<_> = run.into_iter().flat_map(Work::pieces).collect();
        assert_eq!(
            pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(),
            [7, 7 + (2 << 20), 7 + (4 << 20)]
        );
        assert_eq!(pieces[2].end(), 7 + (5 << 20));
    }

    #[test]
    fn only_what_is_not_known_is_read() {
        let between = |a, b| Work::between(0, 512, &status(512, a), &status(512, b));
        assert_eq!(between(true, true), None);
        assert_eq!(between(true, false).unwrap().expect, Expect::Zero(Side::Second));
        assert_eq!(between(false, true).unwrap().expect, Expect::Zero(Side::First));
        assert_eq!(between(false, false).unwrap().expect, Expect::Equal);
        assert_eq!(Work::alone(0, Side::First, &status(512, true)), None);
    }

    #[test]
    fn differences_are_told_by_block() {
        let a = vec![0; 2048];
        let mut b = a.clone();
        assert_eq!(first_difference(&a, &b), None);
        b[1535] = 1;
        assert_eq!(first_difference(&a, &b), Some(2));
    }
}
