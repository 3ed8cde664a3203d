//! Many threads on one chain: each owns its bytes, all share clusters.

use chain::Chain;
use testkit::{Pattern, Rng};

use crate::images::{Built, Shape, read_all};
use crate::operation::Operation;

const SIZE: u64 = 3 << 20;
const THREADS: u64 = 4;
/// Each thread owns every fourth stripe: no two own the same sector, all share clusters.
const STRIPE: u64 = 3 * 512;

/// A stripe of a thread, and a part of it.
fn mine(rng: &mut Rng, thread: u64) -> (u64, usize) {
    let stripes = SIZE / STRIPE / THREADS;
    let start = (rng.below(stripes) * THREADS + thread) * STRIPE;
    let skip = rng.below(STRIPE);
    (start + skip, rng.within(1..STRIPE - skip + 1) as usize)
}

/// Writes, zeroes and reads back; returns what this thread's bytes must be.
fn work(chain: &Chain, thread: u64, seed: u64, before: &[u8]) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut expected = before.to_vec();
    for _ in 0..400 {
        let (offset, len) = mine(&mut rng, thread);
        let range = offset as usize..offset as usize + len;
        match rng.below(8) {
            0 => {
                chain.write_zeroes_at(offset, len as u64, rng.one_in(2)).unwrap();
                expected[range].fill(0);
            }
            1..=4 => {
                let bytes = Pattern::new(rng.next_u64()).bytes(offset, len);
                chain.write_at(offset, &bytes).unwrap();
                expected[range].copy_from_slice(&bytes);
            }
            5 if rng.one_in(10) => chain.flush().unwrap(),
            _ => {
                let mut bytes = vec![0xaa; len];
                chain.read_at(offset, &mut bytes).unwrap();
                assert!(bytes == expected[range], "thread {thread} at {offset}");
            }
        }
    }
    expected
}

#[test]
fn threads_share_clusters_but_not_bytes() {
    let mut seeds = Rng::announced(0xc4a1_0006);
    for cluster_bits in [9, 12, 16, 21] {
        let shape = Shape { cluster_bits, ..Shape::of(SIZE) };
        let mut built = Built::on_raw(&Pattern::new(1).bytes(0, SIZE as usize - 300_000));
        built.push(Shape { zstd: true, ..Shape::of(SIZE) });
        built.change(false, &[Operation::compressed(65536, 6 * 65536, 2)]);
        built.push(shape).change(true, &[Operation::zero(1 << 20, 700_000, false)]);
        built.push(shape);
        let before = built.model.active().bytes().to_vec();
        let chain = built.open_writable();
        let seed: Vec<u64> = (0..THREADS).map(|_| seeds.next_u64()).collect();
        let results: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let spawn = |thread: u64| {
                let (chain, before, seed) = (&chain, &before, seed[thread as usize]);
                scope.spawn(move || work(chain, thread, seed, before))
            };
            let workers: Vec<_> = (0..THREADS).map(spawn).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let mut merged = before;
        for (offset, byte) in merged.iter_mut().enumerate() {
            let owner = offset as u64 / STRIPE % THREADS;
            *byte = results[owner as usize][offset];
        }
        built.model.active_mut().write(0, &merged);
        built.model.active().assert_at(0, &read_all(&chain));
        chain.close().unwrap();
        built.assert_shows_model();
    }
}
