//! `Tally`: how many bytes which layer gives, for plans and for progress.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::plan::Step;
use super::{Action, Piece};
use crate::chain::Chain;
use crate::error::Result;

/// Bytes of pieces, by where they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    data: BTreeMap<usize, u64>,
    zeros: u64,
}

impl Tally {
    /// Counts all pieces.
    pub(crate) fn of(pieces: impl Iterator<Item = Result<Piece>>) -> Result<Self> {
        let mut tally = Self::default();
        for piece in pieces {
            let piece = piece?;
            match piece.action {
                Action::Data(depth) => *tally.data.entry(depth).or_default() += piece.len,
                Action::Zero => tally.zeros += piece.len,
            }
        }
        Ok(tally)
    }

    pub(crate) fn data(&self) -> u64 {
        self.data.values().sum()
    }

    pub(crate) fn total(&self) -> u64 {
        self.data() + self.zeros
    }

    /// The step that moves these bytes out of layers of `source`; none if there are none.
    pub(crate) fn step(&self, source: &Chain, into: PathBuf) -> Option<Step> {
        if self.total() == 0 {
            return None;
        }
        let path = |depth: usize| source.layer(depth).map(|layer| layer.path().to_owned());
        let from = self.data.iter().filter_map(|(&depth, &bytes)| Some((path(depth)?, bytes)));
        let from = from.collect();
        Some(Step::Copy { from, into, data: self.data(), zeros: self.zeros })
    }
}
