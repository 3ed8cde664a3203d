//! `Statistics`: how much was done, and on images of which options.

use std::collections::BTreeMap;
use std::fmt;

use super::recipe::Recipe;

/// How much was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    images: u64,
    steps: u64,
    by_trait: BTreeMap<String, u64>,
}

impl Statistics {
    pub(crate) fn add(&mut self, recipe: &Recipe, steps: usize) {
        self.images += 1;
        self.steps += steps as u64;
        for name in recipe.traits() {
            *self.by_trait.entry(name).or_default() += 1;
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_trait.contains_key(name)
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps on {} images", self.steps, self.images)?;
        self.by_trait.iter().try_for_each(|(name, count)| write!(f, "\n  {name}: {count}"))
    }
}
