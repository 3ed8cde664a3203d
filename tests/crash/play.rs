//! Random deeds of one thread, among them writes that are planned and carried out much later.

use qimg::engine::{PendingWrite, Preallocation, WriteRun, ZeroMode};
use testkit::Rng;
use testkit::stamps::{SECTOR, sectors};

use super::player::Player;
use super::recipe::{Data, Start};

/// Plays so many random deeds.
pub(crate) fn play(player: &mut Player<'_>, rng: &mut Rng, steps: usize) {
    for _ in 0..steps {
        match rng.below(40) {
            0 | 1 => resize(player, rng),
            2 => {
                let lazy =
                    if player.may_be_dirty && rng.one_in(2) { Some(rng.one_in(2)) } else { None };
                player.reopen(lazy);
            }
            3 => player.look(),
            4..9 => interleave(player, rng),
            9..16 => player.flush(),
            _ => deed(player, rng, &Busy::default()),
        }
    }
}

/// Sectors that a pending write keeps for itself.
#[derive(Clone, Copy, Default)]
struct Busy {
    first: usize,
    end: usize,
}

impl Busy {
    fn overlaps(&self, first: usize, count: usize, per_cluster: usize) -> bool {
        let start = first / per_cluster * per_cluster;
        let end = (first + count).next_multiple_of(per_cluster);
        start < self.end && self.first < end
    }
}

/// Sectors and how many: parts of clusters, whole ones, several.
fn range(player: &Player<'_>, rng: &mut Rng) -> (usize, usize) {
    let (size, per_cluster) = (player.size(), player.recipe.per_cluster());
    let near = size.min(12 * per_cluster) as u64;
    // Again and again the same clusters.
    let limit = if rng.one_in(2) { near } else { size as u64 };
    let mut first = rng.below(limit) as usize;
    let mut count = match rng.below(4) {
        0 => 1,
        1 => 1 + rng.below(5) as usize,
        2 => 1 + rng.below(per_cluster as u64) as usize,
        _ => per_cluster * (1 + rng.below(3) as usize),
    };
    if rng.one_in(2) {
        first -= first % per_cluster;
    }
    if player.recipe.start == Start::NearlyFull && rng.one_in(2) {
        // Where nothing is allocated yet.
        first = (size - 1).saturating_sub(rng.below(600) as usize).max(first);
        count = 1 + rng.below(8) as usize;
    }
    (first, count.min(size - first))
}

/// A change anywhere but where somebody is busy.
fn deed(player: &Player<'_>, rng: &mut Rng, busy: &Busy) {
    let (first, count) = range(player, rng);
    let per_cluster = player.recipe.per_cluster();
    if busy.overlaps(first, count, per_cluster) {
        return;
    }
    match rng.below(12) {
        0 => player.zero(first, count, ZeroMode::Keep),
        1 | 2 => player.zero(first, count, ZeroMode::Unmap),
        3 | 4 => player.discard(first, count),
        5 => player.compress(first / per_cluster * per_cluster),
        _ => player.write(first, count),
    }
}

fn resize(player: &mut Player<'_>, rng: &mut Rng) {
    let (size, per_cluster) = (player.size(), player.recipe.per_cluster());
    let most = 2 * player.recipe.sectors.max(player.recipe.below_sectors);
    let to = match rng.below(4) {
        0 => 1 + rng.below(size as u64) as usize,
        1 => (size + rng.below(3 * per_cluster as u64) as usize).min(most),
        2 => player.recipe.sectors,
        _ => (size + rng.below(most as u64) as usize).min(most),
    };
    let all =
        [Preallocation::Off, Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];
    let how = if to > size { *rng.pick(&all) } else { Preallocation::Off };
    player.resize(to, how);
}

/// A write is planned; other things happen; then it is carried out and published, or given up.
fn interleave(player: &Player<'_>, rng: &mut Rng) {
    let (first, count) = range(player, rng);
    let at = (first * SECTOR) as u64;
    let stamp = player.stamp();
    let change = player.diary().begin(player.position(), first, count, stamp);
    let pending = player.image().begin_write(at, (count * SECTOR) as u64).unwrap();
    let holds = player.recipe.data == Data::Raw || allocates(&pending);
    // Whoever writes in place does not keep others away from its clusters.
    let busy = if holds { Busy { first, end: first + count } } else { Busy::default() };
    let mut others = |most: u64| {
        for _ in 0..rng.below(most) {
            if rng.one_in(3) {
                player.flush();
            } else {
                deed(player, rng, &busy);
            }
        }
        rng.one_in(6)
    };
    if others(5) {
        drop(pending);
        player.diary().refused(change);
        player.note("planned write, given up");
        return;
    }
    let bytes = sectors(stamp, first, count);
    player.image().execute(pending.plan(), &bytes).unwrap();
    others(3);
    pending.publish().unwrap();
    player.diary().end(change);
    player.note("planned write");
}

fn allocates(pending: &PendingWrite<'_>) -> bool {
    pending.plan().runs().iter().any(|run| matches!(run, WriteRun::Allocate(_)))
}
