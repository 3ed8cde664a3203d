//! The runs: a short one over every option value, and one for as long as somebody asks.

use std::time::{Duration, Instant};

use testkit::{Rng, number_from};

use super::caught::caught;
use super::history::History;
use super::recipe::TRAITS;
use super::shrink::shrink;
use super::statistics::Statistics;
use super::turn::Turn;
use super::world::World;

/// Seconds for which histories are run; the variable of `cargo xtask soak --seconds`.
const SECONDS_VARIABLE: &str = "QIMG_SOAK_SECONDS";
/// Seed of one history to be repeated; the variable of `cargo xtask soak --seed`.
const SEED_VARIABLE: &str = "QIMG_SOAK_SEED";

/// Where and how a history failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Number of the turn.
    pub(crate) turn: usize,
    pub(crate) text: String,
}

/// Lives a history; `None` if all went well.
pub(crate) fn attempt(history: &History) -> Option<Failure> {
    let mut turn = 0;
    let lived = caught(|| {
        let mut world = World::new(&history.recipe);
        for (number, next) in history.turns.iter().enumerate() {
            turn = number;
            world.turn(next);
        }
        world.finish();
    });
    lived.err().map(|text| Failure { turn, text })
}

/// Lives a history; one that fails is told, as short as it could be made.
fn live(seed: u64, statistics: &mut Statistics) {
    let history = History::new(seed);
    if let Some(failure) = attempt(&history) {
        let seed = history.seed;
        eprintln!("seed {seed:#x} fails in turn {}: {}", failure.turn, failure.text);
        match shrink(&history, failure.turn) {
            Some((short, text)) => panic!(
                "seed {seed:#x}, `cargo xtask soak --seed {seed:#x}`\nshortened to\n{short}\n{text}"
            ),
            None => panic!("seed {seed:#x} failed once, and not again: {}", failure.text),
        }
    }
    let steps = history.turns.iter().map(Turn::step_count).sum();
    statistics.add(&history.recipe, steps);
}

/// Histories until every option value was seen; those that add nothing are not lived.
fn cover(rng: &mut Rng, statistics: &mut Statistics) {
    let missing = |statistics: &Statistics| TRAITS.iter().any(|name| !statistics.has(name));
    for _ in 0..100_000 {
        let seed = rng.next_u64();
        let traits = History::new(seed).recipe.traits();
        if traits.iter().any(|name| !statistics.has(name)) {
            live(seed, statistics);
            if !missing(statistics) {
                return;
            }
        }
    }
    let missing: Vec<_> = TRAITS.iter().filter(|name| !statistics.has(name)).collect();
    panic!("no image ever had {missing:?}");
}

#[test]
fn every_option_value_lives_through_a_history() {
    let mut statistics = Statistics::default();
    cover(&mut Rng::new(0x50a1_0001), &mut statistics);
    eprintln!("{statistics}");
}

#[test]
fn as_long_as_asked() {
    let mut statistics = Statistics::default();
    if let Some(seed) = number_from(SEED_VARIABLE) {
        live(seed, &mut statistics);
    } else if let Some(seconds) = number_from(SECONDS_VARIABLE) {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut rng = Rng::of_now();
        while Instant::now() < end {
            live(rng.next_u64(), &mut statistics);
        }
    } else {
        let mut rng = Rng::new(0x50a1_0002);
        (0..4).for_each(|_| live(rng.next_u64(), &mut statistics));
    }
    println!("{statistics}");
}
