//! `Turn`: what one hand does before everybody looks at the image again.

use std::fmt;

use testkit::Rng;

use super::hand::Hand;
use super::recipe::{Preallocation, Recipe};
use super::step::Step;

/// One turn.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) act: Act,
    /// For choices on the way and afterwards, so that leaving out other turns changes none.
    pub(crate) seed: u64,
}

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Requests one after the other, with the image open all the time.
    Session { hand: Hand, mode: Mode, steps: Vec<Step> },
    /// Requests of the library, and the same ones of the real tool on a copy: clusters must end
    /// up the same in both.
    Twins { steps: Vec<Step> },
    /// Requests on several threads of the library; no two touch the same byte.
    Parallel { mode: Mode, steps: Vec<Step> },
    /// A program is killed: `steps` were flushed, `lost` were not.
    Killed { hand: Hand, steps: Vec<Step>, lost: Vec<Step> },
    /// The disk becomes larger or smaller.
    Resize { hand: Hand, size: u64, preallocation: Preallocation },
    /// An internal snapshot is taken.
    Snapshot { name: String },
    /// The disk goes back to a snapshot.
    Apply { name: String },
    /// A snapshot is given up.
    Delete { name: String },
}

/// How the image is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Cache mode of the programs.
    pub(crate) cache: &'static str,
    /// The programs ignore discards.
    pub(crate) ignores_discard: bool,
    /// Memory of the library for L2 tables, in bytes.
    pub(crate) l2_cache_bytes: u64,
    /// The library goes around the page cache.
    pub(crate) direct: bool,
    /// The library does not wait for the disk.
    pub(crate) ignores_syncs: bool,
}

/// Cache modes of the programs; all but the last wait for the disk a lot.
const CACHES: [&str; 4] = ["writeback", "writethrough", "none", "unsafe"];

impl Mode {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        Self {
            cache: CACHES[(rng.below(12) as usize).min(CACHES.len() - 1)],
            ignores_discard: rng.one_in(8),
            l2_cache_bytes: if rng.one_in(2) { 32 << 20 } else { rng.within(1..64) << 9 },
            direct: rng.one_in(8),
            ignores_syncs: !rng.one_in(8),
        }
    }
}

impl Turn {
    /// The requests in it, to be left out one by one; those of which nothing depends on.
    pub(crate) fn steps_mut(&mut self) -> Option<&mut Vec<Step>> {
        match &mut self.act {
            Act::Session { steps, .. }
            | Act::Twins { steps }
            | Act::Parallel { steps, .. }
            | Act::Killed { steps, .. } => Some(steps),
            _ => None,
        }
    }

    /// How many requests it counts for.
    pub(crate) fn step_count(&self) -> usize {
        match &self.act {
            Act::Session { steps, .. } | Act::Twins { steps } | Act::Parallel { steps, .. } => {
                steps.len()
            }
            Act::Killed { steps, lost, .. } => steps.len() + lost.len(),
            _ => 1,
        }
    }

    /// Whether the real tools did it.
    pub(crate) fn is_theirs(&self) -> bool {
        match &self.act {
            Act::Session { hand, .. } | Act::Killed { hand, .. } | Act::Resize { hand, .. } => {
                *hand == Hand::Theirs
            }
            Act::Parallel { .. } | Act::Twins { .. } => false,
            Act::Snapshot { .. } | Act::Apply { .. } | Act::Delete { .. } => true,
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, steps: &[Step]| {
            steps.iter().try_for_each(|step| write!(f, "\n    {step}"))
        };
        match &self.act {
            Act::Session { hand, mode, steps } => {
                write!(f, "{hand:?}, {mode:?}")?;
                list(f, steps)
            }
            Act::Twins { steps } => {
                write!(f, "Library, and Theirs on a copy")?;
                list(f, steps)
            }
            Act::Parallel { mode, steps } => {
                write!(f, "Library on several threads, {mode:?}")?;
                list(f, steps)
            }
            Act::Killed { hand, steps, lost } => {
                write!(f, "{hand:?}, killed after")?;
                list(f, steps)?;
                write!(f, "\n    and unflushed")?;
                list(f, lost)
            }
            act => write!(f, "{act:?}"),
        }
    }
}

/// A size to change to: a bit or a lot smaller or larger, or the same last cluster.
pub(crate) fn new_size(rng: &mut Rng, recipe: &Recipe, size: u64) -> u64 {
    let cluster = recipe.cluster_bytes();
    let new = match rng.below(4) {
        0 => size * rng.within(30..100) / 100,
        1 => size * rng.within(101..200) / 100,
        2 => size.next_multiple_of(cluster).saturating_sub(rng.below(cluster)),
        _ => size + rng.below(3 * cluster),
    };
    (new / 512 * 512).clamp(512, 24 << 20)
}
