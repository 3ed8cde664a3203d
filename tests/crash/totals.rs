//! `Totals`: how many states were judged, on images of which kind, and what was seen on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::player::Deeds;

/// Everything that is done to images, and that a run should have seen.
pub(crate) const DEEDS: &[&str] = &[
    "write",
    "planned write",
    "planned write, given up",
    "compressed write",
    "zeros",
    "zeros with unmap",
    "discard",
    "growth",
    "shrink",
    "flush",
    "close",
    "repair",
    "leaks given back",
];

/// How much was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) histories: u64,
    pub(crate) lives: u64,
    pub(crate) cuts: u64,
    /// Cuts of which every state was judged.
    pub(crate) exhausted: u64,
    pub(crate) states: u64,
    pub(crate) dirty: u64,
    pub(crate) leaking: u64,
    pub(crate) leaks: u64,
    pub(crate) leaks_max: u64,
    /// States that were repaired, checked by our own check, and written on.
    pub(crate) went_on: u64,
    /// States that the real tool judged.
    pub(crate) reference: u64,
    by_trait: BTreeMap<String, u64>,
    deeds: Deeds,
    pub(crate) elapsed: Duration,
}

impl Totals {
    /// Notes what a history of these traits has added.
    pub(crate) fn add(&mut self, traits: &[String], other: &Self) {
        self.histories += 1;
        self.merge(other);
        for name in traits {
            *self.by_trait.entry(name.clone()).or_default() += other.states;
        }
    }

    /// Notes what was done to an image.
    pub(crate) fn add_deeds(&mut self, deeds: &Deeds) {
        for (name, count) in deeds {
            *self.deeds.entry(name).or_default() += count;
        }
    }

    /// Adds what somebody else has noted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.histories += other.histories;
        self.lives += other.lives;
        self.cuts += other.cuts;
        self.exhausted += other.exhausted;
        self.states += other.states;
        self.dirty += other.dirty;
        self.leaking += other.leaking;
        self.leaks += other.leaks;
        self.leaks_max = self.leaks_max.max(other.leaks_max);
        self.went_on += other.went_on;
        self.reference += other.reference;
        self.add_deeds(&other.deeds);
        for (name, count) in &other.by_trait {
            *self.by_trait.entry(name.clone()).or_default() += count;
        }
    }

    /// Whether an image of this trait was seen.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_trait.contains_key(name)
    }

    /// Whether this was done to an image.
    pub(crate) fn has_deed(&self, name: &str) -> bool {
        self.deeds.contains_key(name)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.states as f64 / seconds.max(0.001);
        writeln!(
            f,
            "{} states after {} power cuts in {} lives of {} histories; {seconds:.0} s, {rate:.0} states/s",
            self.states, self.cuts, self.lives, self.histories
        )?;
        writeln!(
            f,
            "all states of {} cuts, a sample of the others; {} dirty, {} written on, {} judged by \
             qemu-img check",
            self.exhausted, self.dirty, self.went_on, self.reference
        )?;
        writeln!(
            f,
            "corruptions 0, lost or foreign sectors 0; {} states with leaks (allowed), {} leaked \
             clusters in all, at most {} in one",
            self.leaking, self.leaks, self.leaks_max
        )?;
        f.write_str("what was done before the cuts:")?;
        self.deeds.iter().try_for_each(|(name, count)| write!(f, "\n  {name}: {count}"))?;
        f.write_str("\nstates by feature:")?;
        self.by_trait.iter().try_for_each(|(name, count)| write!(f, "\n  {name}: {count}"))
    }
}
