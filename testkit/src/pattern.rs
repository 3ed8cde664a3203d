//! `Pattern`: bytes that follow from a seed and their offset, so that any sector can be verified
//! alone.

use crate::rng::mix;

/// An endless run of bytes. None of them is 0, so data is never mistaken for a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The pattern of one seed; patterns of two seeds have nothing in common.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Fills `buf` with the bytes at `offset`.
    pub fn fill(self, offset: u64, buf: &mut [u8]) {
        let key = mix(self.seed ^ 0x7061_7474_6572_6e00);
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let word = mix(key ^ (at / 8)).to_le_bytes();
            let within = &word[(at % 8) as usize..];
            let count = within.len().min(rest.len());
            let (head, tail) = rest.split_at_mut(count);
            for (target, &byte) in head.iter_mut().zip(within) {
                *target = byte.max(1);
            }
            at += count as u64;
            rest = tail;
        }
    }

    /// The `len` bytes at `offset`.
    #[must_use]
    pub fn bytes(self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// Panics when `actual` is not what the pattern has at `offset`, and says where.
    #[track_caller]
    pub fn assert_at(self, offset: u64, actual: &[u8]) {
        let expected = self.bytes(offset, actual.len());
        if let Some(wrong) = expected.iter().zip(actual).position(|(a, b)| a != b) {
            panic!(
                "offset {}: expected {:#04x} of pattern {:#x}, found {:#04x}",
                offset + wrong as u64,
                expected[wrong],
                self.seed,
                actual[wrong]
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_can_be_computed_alone() {
        let pattern = Pattern::new(3);
        let whole = pattern.bytes(1000, 600);
        for (start, end) in [(0, 600), (1, 9), (7, 8), (13, 600), (512, 512)] {
            let part = pattern.bytes(1000 + start as u64, end - start);
            assert_eq!(part, whole[start..end]);
        }
        assert!(whole.iter().all(|&byte| byte != 0));
    }

    #[test]
    fn seeds_and_sectors_differ() {
        let sector = Pattern::new(1).bytes(0, 512);
        assert_ne!(sector, Pattern::new(2).bytes(0, 512));
        assert_ne!(sector, Pattern::new(1).bytes(512, 512));
    }

    #[test]
    #[should_panic(expected = "offset 12: expected")]
    fn a_wrong_byte_is_named() {
        let mut bytes = Pattern::new(1).bytes(10, 4);
        bytes[2] ^= 1;
        Pattern::new(1).assert_at(10, &bytes);
    }
}
