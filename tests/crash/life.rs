//! A history: several lives of one image, each ended by a power cut.

use qimg::io::MemoryStorage;
use testkit::{CrashFilesLog, CrashPlan, Diary, LostSync, Rng};

use super::below::Layers;
use super::judge::{Judge, Views};
use super::player::{Player, media};
use super::recipe::{Data, Hands, Recipe, Start};
use super::start::{World, make};
use super::totals::Totals;
use super::{play, writers};

/// Names of the files in messages.
const NAMES: [&str; 2] = ["image", "data file"];

/// How thoroughly histories are judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) lives: u64,
    pub(crate) steps: usize,
    /// Most states of one cut.
    pub(crate) states_max: usize,
    /// One state in so many is checked by our own tools and written on.
    pub(crate) go_on_every: u64,
    /// One state in so many is shown to the real tool.
    pub(crate) reference_every: u64,
    pub(crate) lost: LostSync,
}

impl Effort {
    /// For a run that takes its time.
    pub(crate) const LONG: Self = Self {
        lives: 3,
        steps: 24,
        states_max: 96,
        go_on_every: 40,
        reference_every: 4000,
        lost: |_, _| false,
    };

    /// For the suite.
    pub(crate) const SHORT: Self = Self {
        lives: 2,
        steps: 12,
        states_max: 10,
        go_on_every: 60,
        reference_every: 600,
        ..Self::LONG
    };
}

/// Where the next life begins.
struct Next {
    files: Vec<MemoryStorage>,
    stamps: Vec<u64>,
    raw: Vec<u64>,
}

/// What happened in a life, and how its raw data file began, if it has one.
struct Life {
    log: CrashFilesLog,
    diary: Diary,
    raw_start: Option<Vec<u64>>,
}

/// Lives the history of a seed.
///
/// # Errors
/// What was wrong with which state.
pub(crate) fn live(seed: u64, effort: &Effort, totals: &mut Totals) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let recipe = Recipe::random(&mut rng);
    live_as(&recipe, &mut rng, effort, totals)
}

/// Lives a history of an image of this kind.
///
/// # Errors
/// What was wrong with which state.
pub(crate) fn live_as(
    recipe: &Recipe,
    rng: &mut Rng,
    effort: &Effort,
    totals: &mut Totals,
) -> Result<(), String> {
    let layers = Layers::new(recipe.below, recipe.below_sectors, rng);
    let World { mut files, mut stamps, kept } = make(recipe, &layers, rng);
    let mut added = Totals::default();
    let mut has_resized = false;
    let mut raw_start = (recipe.data == Data::Raw).then(|| stamps.clone());
    for number in 1..=effort.lives {
        let power = media(&files, recipe, effort.lost);
        let mut player = Player::new(recipe, &layers, &power, stamps, rng);
        player.begin_life(number);
        match recipe.hands {
            Hands::One => play::play(&mut player, rng, effort.steps),
            Hands::Several => writers::play(&player, rng, effort.steps / 2),
        }
        let may_be_dirty = player.may_be_dirty;
        has_resized |= player.has_resized;
        let kept = kept.as_ref();
        let judge = Judge { recipe, layers: &layers, kept, may_be_dirty, has_resized };
        let diary = player.finish();
        let life = Life { log: power.log(), diary, raw_start: raw_start.take() };
        let next = judge_all(&judge, &life, rng, effort, &mut added);
        let next = next.map_err(|text| format!("{recipe:?}\nlife {number}: {text}"))?;
        (files, stamps) = (next.files, next.stamps);
        raw_start = (recipe.data == Data::Raw).then_some(next.raw);
        added.lives += 1;
    }
    layers.assert_untouched();
    totals.add(&recipe.traits(), &added);
    Ok(())
}

/// Judges the states of a life, and chooses one of them.
fn judge_all(
    judge: &Judge<'_>,
    life: &Life,
    rng: &mut Rng,
    effort: &Effort,
    totals: &mut Totals,
) -> Result<Next, String> {
    let slow = matches!(judge.recipe.start, Start::NearlyFull);
    let states_max = if slow { effort.states_max.div_ceil(8) } else { effort.states_max };
    let mut next = None;
    let mut seen = 0;
    for cut in life.log.cuts() {
        let plan = CrashPlan { states_max, seed: rng.next_u64(), tears: true };
        let allowed = Views::at(cut.position(), &life.diary, life.raw_start.as_deref());
        let states = cut.states(&plan);
        totals.cuts += 1;
        totals.exhausted += u64::from(states.len() < states_max);
        for state in states {
            let files = cut.materialise(&state);
            let told = |text: String| format!("{}: {text}", cut.describe(&state, &NAMES));
            let passed = judge.state(&files, &allowed).map_err(told)?;
            totals.states += 1;
            totals.dirty += u64::from(passed.dirty);
            totals.leaking += u64::from(passed.leaks > 0);
            totals.leaks += passed.leaks;
            totals.leaks_max = totals.leaks_max.max(passed.leaks);
            if rng.one_in(effort.go_on_every) {
                judge.goes_on(&files, &passed).map_err(told)?;
                totals.went_on += 1;
            }
            if rng.one_in(effort.reference_every) {
                judge.reference(&files, &passed).map_err(told)?;
                totals.reference += 1;
            }
            seen += 1;
            if rng.one_in(seen) {
                next = Some(Next { files, stamps: passed.stamps, raw: passed.raw });
            }
        }
    }
    next.ok_or_else(|| "no state was judged".to_owned())
}
