//! A history: several lives of one image, each ended by a power cut.

use qimg::io::MemoryStorage;
use testkit::{CrashFilesLog, CrashPlan, Diary, LostSync, Rng};

use super::below::Layers;
use super::judge::{Judge, Passed, Views};
use super::player::{Player, media};
use super::recipe::{Data, Hands, Recipe, Start};
use super::snapshot::Kept;
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
    /// It is what `cargo xtask crash` does, with a seed as without one.
    pub(crate) is_long: bool,
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
        is_long: true,
    };

    /// For the suite.
    pub(crate) const SHORT: Self = Self {
        lives: 2,
        steps: 12,
        states_max: 10,
        go_on_every: 60,
        reference_every: 600,
        is_long: false,
        ..Self::LONG
    };
}

/// Where a life begins: what the media hold, and what each view of the disk shows.
struct Point {
    files: Vec<MemoryStorage>,
    stamps: Vec<u64>,
    /// In a data file that is a raw image of the disk.
    raw: Option<Vec<u64>>,
}

/// An image on its way through its lives.
struct Walk<'w> {
    recipe: &'w Recipe,
    layers: &'w Layers,
    kept: Option<&'w Kept>,
    effort: &'w Effort,
    has_resized: bool,
    totals: Totals,
}

/// What happened in a life.
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
    live_through(recipe, rng, effort, totals, |player, rng| match recipe.hands {
        Hands::One => play::play(player, rng, effort.steps),
        Hands::Several => writers::play(player, rng, effort.steps / 2),
    })
}

/// Lives a history in which `deeds` are what is done in each life.
///
/// # Errors
/// What was wrong with which state.
pub(crate) fn live_through(
    recipe: &Recipe,
    rng: &mut Rng,
    effort: &Effort,
    totals: &mut Totals,
    mut deeds: impl FnMut(&mut Player<'_>, &mut Rng),
) -> Result<(), String> {
    let layers = Layers::new(recipe.below, recipe.below_sectors, rng);
    let World { files, stamps, kept } = make(recipe, &layers, rng);
    let raw = (recipe.data == Data::Raw).then(|| stamps.clone());
    let mut point = Point { files, stamps, raw };
    let (kept, totals_of_life) = (kept.as_ref(), Totals::default());
    let mut walk =
        Walk { recipe, layers: &layers, kept, effort, has_resized: false, totals: totals_of_life };
    for number in 1..=effort.lives {
        let next = walk.live(number, point, rng, &mut deeds);
        point = next.map_err(|text| format!("{recipe:?}\nlife {number}: {text}"))?;
    }
    layers.assert_untouched();
    totals.add(&recipe.traits(), &walk.totals);
    Ok(())
}

impl Walk<'_> {
    fn live(
        &mut self,
        number: u64,
        start: Point,
        rng: &mut Rng,
        deeds: &mut impl FnMut(&mut Player<'_>, &mut Rng),
    ) -> Result<Point, String> {
        let power = media(&start.files, self.recipe, self.effort.lost);
        let mut player = Player::new(self.recipe, self.layers, &power, start.stamps, rng);
        player.begin_life(number);
        deeds(&mut player, rng);
        self.has_resized |= player.has_resized;
        let (may_be_dirty, deeds) = (player.may_be_dirty, player.deeds());
        let diary = player.finish();
        self.totals.add_deeds(&deeds);
        let life = Life { log: power.log(), diary, raw_start: start.raw };
        let Self { recipe, layers, kept, has_resized, .. } = *self;
        let judge = Judge { recipe, layers, kept, may_be_dirty, has_resized };
        self.totals.lives += 1;
        self.judge_all(&judge, &life, rng)
    }

    /// Judges the states of a life, and chooses one of them.
    fn judge_all(
        &mut self,
        judge: &Judge<'_>,
        life: &Life,
        rng: &mut Rng,
    ) -> Result<Point, String> {
        let slow = matches!(judge.recipe.start, Start::NearlyFull);
        let states_max = self.effort.states_max;
        let states_max = if slow { states_max.div_ceil(8) } else { states_max };
        let (mut next, mut seen) = (None, 0);
        for cut in life.log.cuts() {
            let plan = CrashPlan { states_max, seed: rng.next_u64(), tears: true };
            let views = Views::at(cut.position(), &life.diary, life.raw_start.as_deref());
            let states = cut.states(&plan);
            self.totals.cuts += 1;
            self.totals.exhausted += u64::from(states.len() < states_max);
            for state in states {
                let files = cut.materialise(&state);
                let passed = self
                    .judge_one(judge, &files, &views, rng)
                    .map_err(|text| format!("{}: {text}", cut.describe(&state, &NAMES)))?;
                seen += 1;
                if rng.one_in(seen) {
                    next = Some(Point { files, stamps: passed.stamps, raw: passed.raw });
                }
            }
        }
        next.ok_or_else(|| "no state was judged".to_owned())
    }

    fn judge_one(
        &mut self,
        judge: &Judge<'_>,
        files: &[MemoryStorage],
        views: &Views,
        rng: &mut Rng,
    ) -> Result<Passed, String> {
        let passed = judge.state(files, views)?;
        let totals = &mut self.totals;
        totals.states += 1;
        totals.dirty += u64::from(passed.dirty);
        totals.leaking += u64::from(passed.leaks > 0);
        totals.leaks += passed.leaks;
        totals.leaks_max = totals.leaks_max.max(passed.leaks);
        if rng.one_in(self.effort.go_on_every) {
            judge.goes_on(files, &passed)?;
            totals.went_on += 1;
        }
        if rng.one_in(self.effort.reference_every) {
            judge.reference(files, &passed)?;
            totals.reference += 1;
        }
        Ok(passed)
    }
}
