//! What was written into which overlay: the model that the images are compared with.

use super::base::{BLOCK, Base};

/// Writes into each overlay.
const WRITES: usize = 40;

/// One write.
pub(super) enum Change {
    /// Bytes.
    Data {
        /// First guest byte.
        offset: u64,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// Zeros.
    Zeros {
        /// First guest byte.
        offset: u64,
        /// How many.
        len: u64,
    },
}

impl Change {
    /// Bytes it changes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Data { bytes, .. } => bytes.len() as u64,
            Self::Zeros { len, .. } => *len,
        }
    }

    fn offset(&self) -> u64 {
        match self {
            Self::Data { offset, .. } | Self::Zeros { offset, .. } => *offset,
        }
    }

    /// Makes the same change to a plain array of bytes.
    fn apply(&self, disk: &mut [u8]) {
        let start = self.offset() as usize;
        match self {
            Self::Data { bytes, .. } => disk[start..start + bytes.len()].copy_from_slice(bytes),
            Self::Zeros { len, .. } => disk[start..start + *len as usize].fill(0),
        }
    }
}

/// Everything that was written, overlay by overlay.
pub(super) struct History<'a> {
    blocks: &'a [u64],
    /// State of the generator: the same numbers in every run.
    state: u64,
    overlays: Vec<Vec<Change>>,
}

impl<'a> History<'a> {
    pub(super) fn new(base: &'a Base) -> Self {
        Self { blocks: &base.blocks, state: 0x9e37_79b9_7f4a_7c15, overlays: Vec::new() }
    }

    /// Makes up the writes into the next overlay: small, large, unaligned, zeros; never into
    /// the last quarter of the blocks, which stays with the base.
    pub(super) fn next_changes(&mut self) -> Vec<Change> {
        (0..WRITES).map(|index| self.next_change(index)).collect()
    }

    fn next_change(&mut self, index: usize) -> Change {
        let usable = self.blocks.len() * 3 / 4;
        let first = self.below(usable as u64) as usize;
        // Blocks of a file mostly lie in a row; stay within the row.
        let row = self.blocks[first..usable]
            .windows(2)
            .take_while(|pair| pair[1] - pair[0] == BLOCK as u64)
            .take(63)
            .count()
            + 1;
        let space = (row * BLOCK) as u64;
        let skip = self.below(BLOCK as u64);
        let len = 1 + self.below(space - skip);
        let offset = self.blocks[first] + skip;
        if index % 8 == 7 {
            return Change::Zeros { offset, len };
        }
        let bytes = (0..len).map(|_| self.next() as u8).collect();
        Change::Data { offset, bytes }
    }

    pub(super) fn remember(&mut self, changes: Vec<Change>) {
        self.overlays.push(changes);
    }

    /// Turns the content under an overlay (0 is the lowest) into that of the overlay.
    pub(super) fn replay(&self, overlay: usize, disk: &mut [u8]) {
        self.overlays[overlay].iter().for_each(|change| change.apply(disk));
    }

    /// Bytes written altogether.
    pub(super) fn bytes(&self) -> u64 {
        self.overlays.iter().flatten().map(Change::len).sum()
    }

    /// Number of writes.
    pub(super) fn writes(&self) -> usize {
        self.overlays.iter().map(Vec::len).sum()
    }

    /// An offset in the middle of a cluster that only the base holds.
    pub(super) fn untouched(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block + 1000)
    }

    /// An offset that the lowest overlay holds.
    pub(super) fn example(&self) -> u64 {
        let first = self.overlays.first().and_then(|changes| changes.first());
        first.map_or(0, Change::offset)
    }

    /// The generator xorshift64*: plenty for test data.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
