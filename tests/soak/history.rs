//! `History`: an image and everything that happens to it, from one seed.

use std::fmt;

use testkit::Rng;

use super::hand::{HANDS, Hand};
use super::recipe::{DataFile, Preallocation, Recipe};
use super::step::{Kind, Step};
use super::turn::{Act, Mode, Turn, new_size};

/// An image and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) recipe: Recipe,
    pub(crate) turns: Vec<Turn>,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.recipe)?;
        let mut turns = self.turns.iter().enumerate();
        turns.try_for_each(|(number, turn)| writeln!(f, "{number}: {turn}"))
    }
}

/// Snapshots that an image has at once, at most: as many as counts of 4 bits have room for.
const SNAPSHOTS_MAX: usize = 6;

/// What is known while a history is made up.
struct Draft {
    rng: Rng,
    recipe: Recipe,
    size: u64,
    /// Names of snapshots, with the size of the disk in them.
    snapshots: Vec<(String, u64)>,
    taken: usize,
}

impl History {
    /// The history of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let recipe = Recipe::random(&mut rng);
        let turn_count = rng.within(6..20);
        let mut draft = Draft { rng, size: recipe.size, recipe, snapshots: Vec::new(), taken: 0 };
        let turns = (0..turn_count).map(|_| draft.turn()).collect();
        Self { seed, recipe: draft.recipe, turns }
    }
}

impl Draft {
    fn turn(&mut self) -> Turn {
        let act = match self.rng.below(20) {
            0 | 1 => self.parallel(),
            2 => self.killed(),
            8..=10 => self.twins(),
            3 | 4 => self.resize().unwrap_or_else(|| self.session()),
            5..=7 if self.recipe.snapshots => self.snapshot(),
            _ => self.session(),
        };
        Turn { act, seed: self.rng.next_u64() }
    }

    fn session(&mut self) -> Act {
        let most = if self.recipe.cluster_bits > 17 { 16 } else { 60 };
        let (hand, count) = (*self.rng.pick(&HANDS), self.rng.within(1..most));
        let count = if hand == Hand::Library { 2 * count } else { count };
        let mode = Mode::random(&mut self.rng);
        let mut steps = self.steps(count);
        if hand == Hand::Library && self.rng.one_in(4) {
            let size = new_size(&mut self.rng, &self.recipe, self.size);
            if self.can_resize(size) {
                let place = self.rng.below(count + 1) as usize;
                steps.insert(place, Step { kind: Kind::Resize, offset: 0, len: size, seed: 0 });
                self.size = size;
            }
        }
        Act::Session { hand, mode, steps }
    }

    /// Version 2 has no way to hide what lies below, nor sizes of snapshots.
    fn can_resize(&self, size: u64) -> bool {
        let below = self.recipe.below.is_some() && size > self.size;
        size != self.size && !(self.recipe.version_2 && (below || !self.snapshots.is_empty()))
    }

    fn twins(&mut self) -> Act {
        let count = self.rng.within(1..12);
        Act::Twins { steps: self.steps(count) }
    }

    fn steps(&mut self, count: u64) -> Vec<Step> {
        let hot = self.rng.below(self.size);
        let first = self.rng.below(4) * self.rng.below(2);
        let mut steps = Vec::new();
        for number in 0..count {
            let mut step = Step::random(&mut self.rng, &self.recipe, self.size, hot);
            // The real tool compresses only at the beginning of a session.
            while number < first && step.kind != Kind::Compressed {
                step = Step::random(&mut self.rng, &self.recipe, self.size, hot);
            }
            steps.push(step);
        }
        steps
    }

    /// Neighbouring pieces, cut anywhere, so that several threads work in the same clusters.
    fn parallel(&mut self) -> Act {
        let cluster = self.recipe.cluster_bytes();
        let mode = Mode::random(&mut self.rng);
        let (mut at, mut steps) = (self.rng.below(self.size), Vec::new());
        let count = self.rng.within(4..if cluster > 1 << 17 { 12 } else { 60 });
        while at < self.size && (steps.len() as u64) < count {
            let len = match self.rng.below(4) {
                0 => self.rng.within(1..1000),
                1 => self.rng.within(1..2 * cluster),
                2 => self.rng.within(1..cluster / 4 + 1),
                _ => (at + 1).next_multiple_of(cluster) - at,
            };
            let kind = *self.rng.pick(&[
                Kind::Pattern,
                Kind::Pattern,
                Kind::Fill,
                Kind::Zero,
                Kind::Unmap,
                Kind::Discard,
                Kind::Flush,
            ]);
            let len = len.min(self.size - at);
            steps.push(Step { kind, offset: at, len, seed: self.rng.next_u64() });
            at += len;
        }
        Act::Parallel { mode, steps }
    }

    fn killed(&mut self) -> Act {
        let hand = if *self.rng.pick(&HANDS) == Hand::Theirs { Hand::Theirs } else { Hand::Ours };
        let count = self.rng.within(1..8);
        let steps = self.steps(count);
        // What the real tool has not flushed may come back as anything, and a raw data file may
        // be ahead of the image.
        let may_lose = hand == Hand::Ours && self.recipe.data_file != DataFile::Raw;
        let lost = if may_lose { self.rng.below(8) } else { 0 };
        Act::Killed { hand, steps, lost: self.steps(lost) }
    }

    fn resize(&mut self) -> Option<Act> {
        let size = new_size(&mut self.rng, &self.recipe, self.size);
        let below = self.recipe.below;
        if !self.can_resize(size) {
            return None;
        }
        let hand = if self.rng.one_in(2) { Hand::Ours } else { Hand::Theirs };
        let reserves = below.is_none() && size > self.size;
        let preallocation = match self.rng.below(8) {
            0 if reserves => Preallocation::Metadata,
            // The real tool refuses these when the file is longer than it needs to be.
            1 if reserves && hand == Hand::Ours => Preallocation::Falloc,
            2 if reserves && hand == Hand::Ours => Preallocation::Full,
            _ => Preallocation::Off,
        };
        self.size = size;
        Some(Act::Resize { hand, size, preallocation })
    }

    fn snapshot(&mut self) -> Act {
        let count = self.snapshots.len();
        let number = self.rng.below(count.max(1) as u64) as usize;
        match self.rng.below(4) {
            0 if count > 0 => {
                let (name, size) = self.snapshots[number].clone();
                // Version 2 does not resize beside snapshots; sizes are all the same then.
                self.size = size;
                Act::Apply { name }
            }
            choice if count == SNAPSHOTS_MAX || (choice < 3 && count > 1) => {
                let (name, _) = self.snapshots.remove(number);
                Act::Delete { name }
            }
            _ => {
                let name = format!("s{}", self.taken);
                self.taken += 1;
                self.snapshots.push((name.clone(), self.size));
                Act::Snapshot { name }
            }
        }
    }
}
