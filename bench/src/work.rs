//! What is done: which offsets, how many bytes, reading or writing, and when to flush.

/// Splitmix: the same offsets in every run and for every contender.
pub(crate) struct Offsets(u64);

impl Offsets {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// The order of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Anywhere, aligned to the block.
    Random,
    /// One block after the other.
    Sequential,
    /// One block in each cluster of 64 KiB, clusters in random order, so far into the cluster.
    ClustersShuffled { skip: u64 },
    /// The same in ascending order, which is what `qemu-img bench -S 65536` does.
    Clusters { skip: u64 },
}

/// Work for all contenders of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) direction: Direction,
    pub(crate) pattern: Pattern,
    pub(crate) block: usize,
    pub(crate) requests: usize,
    pub(crate) threads: usize,
    /// A flush after so many writes of a thread.
    pub(crate) flush_every: Option<usize>,
}

const CLUSTER: u64 = 64 << 10;

impl Work {
    /// The offsets of each thread on a disk of `size` bytes.
    pub(crate) fn offsets(&self, size: u64, seed: u64) -> Vec<Vec<u64>> {
        let mut random = Offsets::new(seed);
        let block = self.block as u64;
        let all: Vec<u64> = match self.pattern {
            Pattern::Random => {
                (0..self.requests).map(|_| random.below(size / block) * block).collect()
            }
            Pattern::Sequential => {
                (0..self.requests as u64).map(|number| number * block % size).collect()
            }
            Pattern::Clusters { skip } => {
                (0..self.requests as u64).map(|number| number * CLUSTER + skip).collect()
            }
            Pattern::ClustersShuffled { skip } => {
                let mut clusters: Vec<u64> = (0..size / CLUSTER).collect();
                for last in (1..clusters.len()).rev() {
                    clusters.swap(last, random.below(last as u64 + 1) as usize);
                }
                clusters
                    .iter()
                    .take(self.requests)
                    .map(|cluster| cluster * CLUSTER + skip)
                    .collect()
            }
        };
        let share = all.len().div_ceil(self.threads);
        all.chunks(share).map(<[u64]>::to_vec).collect()
    }
}
