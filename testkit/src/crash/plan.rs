//! `CrashPlan`: which of the many states after a power cut are looked at.

use std::collections::HashSet;

use block_io::Storage as _;

use super::state::sector_count;
use super::{CrashState, Epoch, Event, Fate, Tear};
use crate::Rng;

/// How many states of each epoch are made, and which.
///
/// When an epoch has at most `states_max` of them, all are made. Otherwise the telling ones come
/// first (nothing arrived, everything arrived, the power went between two changes, one change
/// overtook or missed all others, one was torn), as many as fit into half of the budget, and
/// random ones after them.
#[derive(Clone, Copy, Debug)]
pub struct CrashPlan {
    /// Most states made of one epoch.
    pub states_max: usize,
    /// Chooses the random ones.
    pub seed: u64,
    /// Whether changes of several sectors may be torn. A medium without tears is the weaker
    /// test and has fewer states.
    pub tears: bool,
}

impl Default for CrashPlan {
    /// Up to 256 states of each epoch, tears among them.
    fn default() -> Self {
        Self { states_max: 256, seed: 1, tears: true }
    }
}

impl Epoch<'_> {
    /// The states that `plan` chooses, each once.
    #[must_use]
    pub fn states(&self, plan: &CrashPlan) -> Vec<CrashState> {
        let len = self.base.len().unwrap();
        let pending: Vec<_> = self.pending.iter().map(|event| Pending::new(event, len)).collect();
        let fates = choose(plan, self.durable as u64, &pending);
        fates.into_iter().map(|fates| self.state(fates)).collect()
    }
}

/// A change whose fate is to be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending<'e> {
    pub(super) event: &'e Event,
    /// It is a write behind what is durably the end, which may move without it.
    pub(super) moves_end: bool,
}

impl<'e> Pending<'e> {
    /// A change of an object of which `durable_len` bytes are durable.
    pub(super) fn new(event: &'e Event, durable_len: u64) -> Self {
        let moves_end = matches!(event, Event::Write { offset, bytes }
            if offset + bytes.len() as u64 > durable_len);
        Self { event, moves_end }
    }

    /// The fates that an exhaustive run gives to the change.
    fn choices(self, tears: bool) -> Vec<Fate> {
        let mut fates = vec![Fate::Applied, Fate::Dropped];
        let sectors = sector_count(self.event);
        if tears && sectors > 1 {
            let half = sectors / 2;
            fates.push(Fate::Torn(Tear::Head { sectors: half }));
            fates.push(Fate::Torn(Tear::Tail { lost: half }));
        }
        if tears && self.moves_end {
            fates.push(Fate::Hollow);
        }
        fates
    }
}

/// The fates of all pending changes in each state that `plan` chooses.
pub(super) fn choose(plan: &CrashPlan, salt: u64, pending: &[Pending<'_>]) -> Vec<Vec<Fate>> {
    assert!(plan.states_max > 0, "a plan without states tests nothing");
    let choices: Vec<_> = pending.iter().map(|change| change.choices(plan.tears)).collect();
    let count = choices.iter().try_fold(1usize, |count, these| count.checked_mul(these.len()));
    match count {
        Some(count) if count <= plan.states_max => every(&choices, count),
        _ => sample(plan, salt, pending),
    }
}

fn sample(plan: &CrashPlan, salt: u64, pending: &[Pending<'_>]) -> Vec<Vec<Fate>> {
    let mut rng = Rng::new(plan.seed ^ salt);
    let mut seen = HashSet::new();
    let mut chosen = Vec::new();
    let count = telling_count(plan, pending);
    let room = (plan.states_max / 2).max(1);
    // Evenly spread where there are too many; the two extremes are the first two.
    let step = count.div_ceil(room).max(1);
    let picked = (0..count).filter(|number| *number < 2 || (number - 2) % step == 0);
    for fates in picked.map(|number| telling(plan, pending, number)) {
        if chosen.len() < plan.states_max && seen.insert(fates.clone()) {
            chosen.push(fates);
        }
    }
    // There are more states than the budget, but chance may find the same ones again.
    for _ in 0..plan.states_max * 2 {
        if chosen.len() >= plan.states_max {
            break;
        }
        let fates = random(&mut rng, pending, plan.tears);
        if seen.insert(fates.clone()) {
            chosen.push(fates);
        }
    }
    chosen
}

/// How many telling states there are.
fn telling_count(plan: &CrashPlan, pending: &[Pending<'_>]) -> usize {
    2 + pending.iter().map(|change| 3 + change.choices(plan.tears).len() - 2).sum::<usize>()
}

/// The telling state of a number; the first two are "nothing arrived" and "everything arrived".
fn telling(plan: &CrashPlan, pending: &[Pending<'_>], number: usize) -> Vec<Fate> {
    let all = |fate| vec![fate; pending.len()];
    let but_one = |index: usize, one, others| {
        let mut fates = all(others);
        fates[index] = one;
        fates
    };
    let Some(mut number) = number.checked_sub(2) else {
        return all([Fate::Dropped, Fate::Applied][number]);
    };
    for (index, change) in pending.iter().enumerate() {
        let special = &change.choices(plan.tears)[2..];
        match number {
            0 => {
                let mut prefix = all(Fate::Dropped);
                prefix[..index].fill(Fate::Applied);
                return prefix;
            }
            1 => return but_one(index, Fate::Applied, Fate::Dropped),
            2 => return but_one(index, Fate::Dropped, Fate::Applied),
            _ if number - 3 < special.len() => {
                return but_one(index, special[number - 3], Fate::Applied);
            }
            _ => number -= 3 + special.len(),
        }
    }
    unreachable!("there are fewer telling states")
}

fn random(rng: &mut Rng, pending: &[Pending<'_>], tears: bool) -> Vec<Fate> {
    // Some states lose nearly everything, some nearly nothing.
    let applied_in_8 = *rng.pick(&[1, 4, 7]);
    let fate = |change: &Pending<'_>| {
        let sectors = sector_count(change.event);
        if tears && change.moves_end && rng.one_in(6) {
            return Fate::Hollow;
        }
        if tears && sectors > 1 && rng.one_in(4) {
            return Fate::Torn(match rng.below(3) {
                0 => Tear::Head { sectors: rng.within(1..sectors) },
                1 => Tear::Tail { lost: rng.within(1..sectors) },
                _ => Tear::Scattered { seed: rng.next_u64() },
            });
        }
        if rng.below(8) < applied_in_8 { Fate::Applied } else { Fate::Dropped }
    };
    pending.iter().map(fate).collect()
}

/// Every combination of `choices`, of which there are `count`.
fn every(choices: &[Vec<Fate>], count: usize) -> Vec<Vec<Fate>> {
    let state = |mut number: usize| {
        let fate = |these: &Vec<Fate>| {
            let fate = these[number % these.len()];
            number /= these.len();
            fate
        };
        choices.iter().map(fate).collect()
    };
    (0..count).map(state).collect()
}
