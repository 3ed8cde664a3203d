//! `Rng`: a tiny deterministic generator, so that a failure repeats from its seed.

use core::ops::Range;
use std::time::SystemTime;

/// Environment variable that replaces the seed of [`Rng::announced`].
const SEED_VARIABLE: &str = "QIMG_SEED";

/// splitmix64: one word of state, good enough to choose test cases.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator of one seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Like [`new`](Rng::new), but the environment variable `QIMG_SEED` (decimal or `0x` and
    /// hexadecimal digits) wins, and the seed goes to standard error, where a failed test shows
    /// it.
    #[must_use]
    pub fn announced(seed: u64) -> Self {
        let seed = number_from(SEED_VARIABLE).unwrap_or(seed);
        eprintln!("{SEED_VARIABLE}={seed:#x}");
        Self::new(seed)
    }

    /// A generator that is another one every time.
    #[must_use]
    pub fn of_now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::new(since.as_nanos() as u64)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "there is no number below 0");
        // The bias of a remainder is far below what a test could notice.
        self.next_u64() % limit
    }

    /// A number of the range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// `true` once in `odds` times.
    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Fills `buf` with noise.
    pub fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// A generator whose numbers have nothing to do with those that follow here.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }
}

/// Scrambles a word so that neighbours have nothing in common.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// A number from the environment, decimal or `0x` and hexadecimal digits; `None` where the variable
/// is not set.
#[must_use]
pub fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| parse(variable, &text))
}

fn parse(variable: &str, text: &str) -> u64 {
    let digits = text.strip_prefix("0x");
    let number = digits.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    number.unwrap_or_else(|_| panic!("{variable} is no number: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let mut first = Rng::new(7);
        let mut second = Rng::new(7);
        let words: Vec<_> = (0..8).map(|_| first.next_u64()).collect();
        assert_eq!(words, (0..8).map(|_| second.next_u64()).collect::<Vec<_>>());
        // The published first output of splitmix64 for seed 0.
        assert_eq!(Rng::new(0).next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_ne!(first.fork().next_u64(), first.next_u64());
    }

    #[test]
    fn numbers_stay_in_range() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 3];
        for _ in 0..100 {
            seen[(rng.within(5..8) - 5) as usize] = true;
        }
        assert_eq!(seen, [true; 3]);
        let mut buf = [0; 11];
        rng.fill(&mut buf);
        assert_ne!(buf[8..], [0; 3]);
    }

    #[test]
    fn seeds_are_read_in_both_notations() {
        assert_eq!((parse("N", "12"), parse("N", "0x1f")), (12, 31));
    }
}
