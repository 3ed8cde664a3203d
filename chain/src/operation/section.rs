//! `Section`: the upper layers of an open chain, asked who among them owns which bytes.

use crate::chain::Chain;
use crate::error::Result;
use crate::status::Status;

/// The first `layers` layers of a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'c> {
    chain: &'c Chain,
    layers: usize,
}

/// Who owns bytes, as far as the layers of a section know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The layer at this depth holds data.
    Data(usize),
    /// They read as zeros by the word of the layer at this depth, whatever lies further below.
    Zero(usize),
    /// They lie behind the end of the layer at this depth: zeros, whatever lies further below.
    Behind(usize),
    /// None of them: what lies below the section shows.
    Below,
}

impl Owner {
    fn of(status: &Status, layers: usize) -> Self {
        match (status.present, status.zero) {
            // The one that answers, or the one behind whose end it is, lies below the section.
            (true, _) if status.depth >= layers => Self::Below,
            (false, _) if status.depth + 1 >= layers => Self::Below,
            (false, _) => Self::Behind(status.depth + 1),
            (true, false) => Self::Data(status.depth),
            (true, true) => Self::Zero(status.depth),
        }
    }
}

impl<'c> Section<'c> {
    pub(crate) fn new(chain: &'c Chain, layers: usize) -> Self {
        Self { chain, layers }
    }

    /// The runs from `start` to `end`, neighbours of one owner merged.
    pub(crate) fn runs(self, start: u64, end: u64) -> Runs<'c> {
        Runs { section: self, at: start, end, pending: None }
    }
}

/// A run of bytes with one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) owner: Owner,
}

/// Walks over a range of a [`Section`].
#[derive(Debug)]
pub(crate) struct Runs<'c> {
    section: Section<'c>,
    at: u64,
    end: u64,
    pending: Option<Run>,
}

impl Runs<'_> {
    fn step(&mut self) -> Result<Run> {
        let offset = self.at;
        let status = self.section.chain.status_at(offset, self.end - offset)?;
        let len = status.len.clamp(1, self.end - offset);
        self.at += len;
        Ok(Run { offset, len, owner: Owner::of(&status, self.section.layers) })
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end {
            let run = match self.step() {
                Ok(run) => run,
                Err(error) => {
                    (self.at, self.pending) = (self.end, None); // no more after an error
                    return Some(Err(error));
                }
            };
            match &mut self.pending {
                Some(last) if last.owner == run.owner => last.len += run.len,
                pending => {
                    if let Some(complete) = pending.replace(run) {
                        return Some(Ok(complete));
                    }
                }
            }
        }
        self.pending.take().map(Ok)
    }
}
