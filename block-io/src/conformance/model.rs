//! Random operations on a storage and on a plain byte vector must agree.

use std::io::IoSlice;

use super::whole;
use crate::Storage;

const OPERATIONS: usize = 300;
const END_MAX: u64 = 40_000;

/// A long random sequence leaves the same bytes as on a byte vector. The sequence is always the
/// same, so a failure repeats.
pub fn random_operations_match_a_byte_vector(storage: &dyn Storage) {
    let mut random = Random(0x5eed);
    let mut model = Vec::new();
    for step in 0..OPERATIONS {
        let action = random.below(6);
        let offset = random.below(END_MAX);
        let len = 1 + random.below(if step % 3 == 0 { 9000 } else { 600 });
        apply(storage, &mut model, action, offset, len, step as u8 | 1);
        assert_eq!(storage.len().unwrap(), model.len() as u64, "length after step {step}");
        assert!(
            whole(storage) == model,
            "step {step} (action {action}, {len} bytes at {offset}) went wrong"
        );
    }
}

fn apply(storage: &dyn Storage, model: &mut Vec<u8>, action: u64, offset: u64, len: u64, fill: u8) {
    let range = offset as usize..(offset + len) as usize;
    let grow = |model: &mut Vec<u8>| model.resize(model.len().max(range.end), 0);
    match action {
        0 | 1 => {
            let bytes: Vec<u8> = range.clone().map(|i| fill.wrapping_add(i as u8)).collect();
            if action == 0 {
                storage.write_at(offset, &bytes).unwrap();
            } else {
                let (a, b) = bytes.split_at(bytes.len() / 3);
                storage.write_vectored_at(offset, &[a, b].map(IoSlice::new)).unwrap();
            }
            grow(model);
            model[range].copy_from_slice(&bytes);
        }
        2 => {
            storage.write_zeroes_at(offset, len).unwrap();
            grow(model);
            model[range].fill(0);
        }
        3 => {
            if storage.punch_hole(offset, len).unwrap() {
                let end = range.end.min(model.len());
                model[range.start.min(end)..end].fill(0);
            }
        }
        4 => {
            storage.allocate(offset, len).unwrap();
            grow(model);
        }
        _ => {
            storage.set_len(offset).unwrap();
            model.resize(offset as usize, 0);
        }
    }
}

/// splitmix64: this crate wants no dependency for one loop.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % limit
    }
}
