//! The tree, built from left to right in memory for one node of each level.

use super::range::{RangeBytes, RangeHash};
use super::{BLOCK_BITS, BLOCK_BYTES, Digest, LEVELS};

/// A block of zeros.
static ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];

/// The hash of one block, which is 65536 bytes long.
pub(super) fn leaf(block: &[u8]) -> Digest {
    debug_assert_eq!(block.len() as u64, BLOCK_BYTES, "the last block is filled up with zeros");
    blake3::hash(block).into()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut children = [0; 64];
    children[..32].copy_from_slice(left.as_bytes());
    children[32..].copy_from_slice(right.as_bytes());
    blake3::hash(&children).into()
}

/// The node of zeros of each level.
#[derive(Clone, Debug)]
pub(super) struct Zeros([Digest; LEVELS as usize + 1]);

impl Zeros {
    pub(super) fn new() -> Self {
        let mut nodes = [leaf(&ZERO_BLOCK); LEVELS as usize + 1];
        for level in 1..nodes.len() {
            nodes[level] = node(&nodes[level - 1], &nodes[level - 1]);
        }
        Self(nodes)
    }

    pub(super) fn node(&self, level: u32) -> Digest {
        self.0[level.min(LEVELS) as usize]
    }

    pub(super) fn leaf(&self) -> Digest {
        self.node(0)
    }
}

/// A tree under construction.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    zeros: &'a Zeros,
    /// Complete nodes that wait for the one to their right; levels fall.
    waiting: Vec<(u32, Digest)>,
    /// Blocks behind us.
    blocks: u64,
    ranges: Option<RangeBytes>,
}

/// Who is told of ranges.
pub(super) type OnRange<'a> = dyn FnMut(RangeHash) + 'a;

impl<'a> Tree<'a> {
    pub(super) fn new(zeros: &'a Zeros, ranges: Option<RangeBytes>) -> Self {
        Self { zeros, waiting: Vec::new(), blocks: 0, ranges }
    }

    /// Blocks behind us.
    pub(super) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The next block.
    pub(super) fn push(&mut self, leaf: Digest, on_range: &mut OnRange<'_>) {
        self.push_node(0, leaf, on_range);
    }

    /// The next `count` blocks, all zeros.
    pub(super) fn push_zeros(&mut self, count: u64, on_range: &mut OnRange<'_>) {
        let mut rest = count;
        while rest > 0 {
            // The largest node that may start here and does not reach too far.
            let level = self.blocks.trailing_zeros().min(rest.ilog2()).min(LEVELS);
            self.push_node(level, self.zeros.node(level), on_range);
            rest -= 1 << level;
        }
    }

    /// The node that covers everything: zeros without end follow.
    pub(super) fn finish(mut self, on_range: &mut OnRange<'_>) -> Digest {
        self.push_zeros((1 << LEVELS) - self.blocks, on_range);
        self.waiting.pop().map_or_else(|| self.zeros.node(LEVELS), |(_, digest)| digest)
    }

    fn push_node(&mut self, level: u32, digest: Digest, on_range: &mut OnRange<'_>) {
        self.blocks += 1 << level;
        let (mut level, mut digest) = (level, digest);
        self.tell(level, digest, on_range);
        while let Some(&(waiting, left)) = self.waiting.last()
            && waiting == level
        {
            self.waiting.pop();
            level += 1;
            digest = node(&left, &digest);
            self.tell(level, digest, on_range);
        }
        self.waiting.push((level, digest));
    }

    /// Zeros are not told: a larger node of zeros stands for many ranges.
    fn tell(&self, level: u32, digest: Digest, on_range: &mut OnRange<'_>) {
        let Some(ranges) = self.ranges.filter(|ranges| ranges.level() == level) else { return };
        if digest != self.zeros.node(level) {
            // The node ends here.
            let end = self.blocks << BLOCK_BITS;
            on_range(RangeHash { start: end - ranges.get(), hash: digest });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore(_: RangeHash) {}

    /// By the words of the construction, without any of the shortcuts.
    fn by_the_book(leaves: &[Digest], level: u32, zeros: &Zeros) -> Digest {
        match leaves {
            [] => zeros.node(level),
            &[leaf] if level == 0 => leaf,
            _ => {
                let half = (1_usize << (level - 1)).min(leaves.len());
                let (left, right) = leaves.split_at(half);
                node(&by_the_book(left, level - 1, zeros), &by_the_book(right, level - 1, zeros))
            }
        }
    }

    #[test]
    fn every_way_to_push_gives_the_tree_of_the_book() {
        let zeros = Zeros::new();
        let other = Digest::from([7; 32]);
        for pattern in 0_u32..1 << 9 {
            let is_zero = |index: u32| pattern >> index & 1 == 0;
            let leaves: Vec<Digest> =
                (0..9).map(|index| if is_zero(index) { zeros.leaf() } else { other }).collect();
            let mut one_by_one = Tree::new(&zeros, None);
            leaves.iter().for_each(|&leaf| one_by_one.push(leaf, &mut ignore));
            let mut in_runs = Tree::new(&zeros, None);
            let mut index = 0;
            while index < 9 {
                let run = (index..9).take_while(|&index| is_zero(index)).count() as u32;
                match run {
                    0 => in_runs.push(other, &mut ignore),
                    run => in_runs.push_zeros(u64::from(run), &mut ignore),
                }
                index += run.max(1);
            }
            assert_eq!(in_runs.blocks(), 9);
            let book = by_the_book(&leaves, LEVELS, &zeros);
            assert_eq!(one_by_one.finish(&mut ignore), book, "{pattern:b}");
            assert_eq!(in_runs.finish(&mut ignore), book, "{pattern:b}");
        }
    }

    #[test]
    fn ranges_are_told_once_and_zeros_never() {
        let zeros = Zeros::new();
        let other = Digest::from([7; 32]);
        let ranges = RangeBytes::new(4 << 16).unwrap();
        let mut told = Vec::new();
        let mut tree = Tree::new(&zeros, Some(ranges));
        tree.push_zeros(1000, &mut |range| told.push(range));
        tree.push(other, &mut |range| told.push(range));
        tree.push_zeros(5, &mut |range| told.push(range));
        tree.push(zeros.leaf(), &mut |range| told.push(range));
        tree.push(other, &mut |range| told.push(range));
        tree.finish(&mut |range| told.push(range));
        let starts: Vec<u64> = told.iter().map(|range| range.start >> BLOCK_BITS).collect();
        assert_eq!(starts, [1000, 1004]);
        let first = by_the_book(&[other, zeros.leaf(), zeros.leaf(), zeros.leaf()], 2, &zeros);
        assert_eq!(told[0].hash, first);
    }

    #[test]
    fn the_empty_disk_is_zeros() {
        let zeros = Zeros::new();
        assert_eq!(Tree::new(&zeros, None).finish(&mut ignore), zeros.node(LEVELS));
        let mut whole = Tree::new(&zeros, None);
        whole.push_zeros(1 << LEVELS, &mut ignore);
        assert_eq!(whole.finish(&mut ignore), zeros.node(LEVELS));
    }
}
