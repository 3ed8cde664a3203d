//! Hashing of slice numbers.

use std::hash::{BuildHasher, Hasher};

/// Numbers come from offsets inside the disk, and a bad spread costs time, no more: a multiplication
/// is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BuildSliceHasher;

#[derive(Clone, Copy, Debug)]
pub(super) struct SliceHasher(u64);

impl BuildHasher for BuildSliceHasher {
    type Hasher = SliceHasher;

    fn build_hasher(&self) -> SliceHasher {
        SliceHasher(0)
    }
}

impl Hasher for SliceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper half depends on all bits of the number.
        self.0 = product ^ (product >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_regular_distances_spread() {
        for distance in [1, 16, 512, 1 << 20] {
            let mut buckets = [0; 128];
            for number in 0..1024_u64 {
                let hash = BuildSliceHasher.hash_one(number * distance);
                buckets[hash as usize % 128] += 1;
                assert!(hash >> 57 < 128);
            }
            let most = buckets.iter().max().unwrap();
            assert!(*most < 40, "{most} of 1024 in one of 128 buckets");
        }
    }
}
