//! `CrashPlan`: which of the many states after a power cut are looked at.

use std::collections::HashSet;

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
        assert!(plan.states_max > 0, "a plan without states tests nothing");
        let choices: Vec<_> = self.pending.iter().map(|event| choices(event, plan.tears)).collect();
        let count = choices.iter().try_fold(1usize, |count, these| count.checked_mul(these.len()));
        let fates = match count {
            Some(count) if count <= plan.states_max => every(&choices, count),
            _ => self.sample(plan),
        };
        fates.into_iter().map(|fates| self.state(fates)).collect()
    }

    fn sample(&self, plan: &CrashPlan) -> Vec<Vec<Fate>> {
        let mut rng = Rng::new(plan.seed ^ self.durable as u64);
        let mut seen = HashSet::new();
        let mut chosen = Vec::new();
        let telling = self.telling(plan.tears);
        let room = (plan.states_max / 2).max(1);
        // Evenly spread where there are too many; the two extremes are the first two.
        let step = telling.len().div_ceil(room).max(1);
        let extremes = telling.iter().take(2);
        for fates in extremes.chain(telling.iter().skip(2).step_by(step)) {
            if chosen.len() < plan.states_max && seen.insert(fates.clone()) {
                chosen.push(fates.clone());
            }
        }
        // There are more states than the budget, but chance may find the same ones again.
        for _ in 0..plan.states_max * 2 {
            if chosen.len() >= plan.states_max {
                break;
            }
            let fates = self.random(&mut rng, plan.tears);
            if seen.insert(fates.clone()) {
                chosen.push(fates);
            }
        }
        chosen
    }

    fn telling(&self, tears: bool) -> Vec<Vec<Fate>> {
        let count = self.pending.len();
        let all = |fate| vec![fate; count];
        let but_one = |index: usize, one, others| {
            let mut fates = vec![others; count];
            fates[index] = one;
            fates
        };
        let mut states = vec![all(Fate::Dropped), all(Fate::Applied)];
        for index in 0..count {
            let mut prefix = all(Fate::Dropped);
            prefix[..index].fill(Fate::Applied);
            states.push(prefix);
            states.push(but_one(index, Fate::Applied, Fate::Dropped));
            states.push(but_one(index, Fate::Dropped, Fate::Applied));
            for &torn in choices(&self.pending[index], tears).iter().skip(2) {
                states.push(but_one(index, torn, Fate::Applied));
            }
        }
        states
    }

    fn random(&self, rng: &mut Rng, tears: bool) -> Vec<Fate> {
        // Some states lose nearly everything, some nearly nothing.
        let applied_in_8 = *rng.pick(&[1, 4, 7]);
        let fate = |event: &Event| {
            let sectors = sector_count(event);
            if tears && sectors > 1 && rng.one_in(4) {
                return Fate::Torn(match rng.below(3) {
                    0 => Tear::Head { sectors: rng.within(1..sectors) },
                    1 => Tear::Tail { lost: rng.within(1..sectors) },
                    _ => Tear::Scattered { seed: rng.next_u64() },
                });
            }
            if rng.below(8) < applied_in_8 { Fate::Applied } else { Fate::Dropped }
        };
        self.pending.iter().map(fate).collect()
    }
}

/// The fates that an exhaustive run gives to a change.
fn choices(event: &Event, tears: bool) -> Vec<Fate> {
    let mut fates = vec![Fate::Applied, Fate::Dropped];
    let sectors = sector_count(event);
    if tears && sectors > 1 {
        let half = sectors / 2;
        fates.push(Fate::Torn(Tear::Head { sectors: half }));
        fates.push(Fate::Torn(Tear::Tail { lost: half }));
    }
    fates
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
