//! Random deeds of several threads at once, on the same few clusters, and one that flushes. What
//! they do follows from the seed; in which order they get to do it does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use qimg::engine::ZeroMode;
use testkit::Rng;

use super::player::Player;

const WRITERS: usize = 3;

/// Plays so many random deeds on each thread.
pub(crate) fn play(player: &Player<'_>, rng: &mut Rng, steps: usize) {
    let rngs: Vec<Rng> = (0..WRITERS).map(|_| rng.fork()).collect();
    let busy = AtomicUsize::new(WRITERS);
    std::thread::scope(|scope| {
        for mut rng in rngs {
            let busy = &busy;
            scope.spawn(move || {
                (0..steps).for_each(|_| deed(player, &mut rng));
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        while busy.load(Ordering::Acquire) > 0 {
            player.flush();
            std::thread::yield_now();
        }
    });
}

fn deed(player: &Player<'_>, rng: &mut Rng) {
    let (size, per_cluster) = (player.size(), player.recipe.per_cluster());
    // Few clusters, different sectors of them.
    let clusters = (size.div_ceil(per_cluster) as u64).min(6);
    let cluster = rng.below(clusters) as usize * per_cluster;
    let first = cluster + rng.below(per_cluster as u64) as usize;
    let first = first.min(size - 1);
    let count = (1 + rng.below(4) as usize).min(size - first);
    match rng.below(10) {
        0 => player.zero(first, count, ZeroMode::Keep),
        1 => player.zero(first, count, ZeroMode::Unmap),
        2 => player.zero(cluster, per_cluster.min(size - cluster), ZeroMode::Unmap),
        3 => player.discard(cluster, per_cluster.min(size - cluster)),
        4 => player.compress(cluster),
        5 if rng.one_in(3) => player.flush(),
        _ => player.write(first, count),
    }
}
