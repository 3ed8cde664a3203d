//! What is allocated where, through the whole chain: runs as long as they can be.

use std::ops::Range;

use chain::{Chain, Error, Status};

/// A run of guest bytes that one layer answers in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First guest byte.
    pub start: u64,
    /// Who answers, and how. `status.len` is the length of the run.
    pub status: Status,
}

/// Walks over a range of guest bytes; see [`map`].
#[derive(Clone, Debug)]
pub struct Map<'a> {
    chain: &'a Chain,
    at: u64,
    end: u64,
    /// Read already, and not yet known to be complete.
    pending: Option<Extent>,
    failed: bool,
}

/// The extents of `range`, cut to the disk. Neighbours are merged when they agree in
/// everything and lie next to each other on the host too.
#[must_use]
pub fn map(chain: &Chain, range: Range<u64>) -> Map<'_> {
    let end = range.end.min(chain.virtual_size());
    Map { chain, at: range.start.min(end), end, pending: None, failed: false }
}

impl Iterator for Map<'_> {
    type Item = Result<Extent, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.end && !self.failed {
            let status = match self.chain.status_at(self.at, self.end - self.at) {
                Ok(status) => status,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            };
            // A run that does not advance would never end; the chain promises there is none.
            debug_assert!(status.len > 0, "empty run at {}", self.at);
            let len = status.len.clamp(1, self.end - self.at);
            let next = Extent { start: self.at, status: Status { len, ..status } };
            self.at += len;
            match &mut self.pending {
                Some(last) if last.status.continues(&next.status) => last.status.len += len,
                pending => {
                    if let Some(complete) = pending.replace(next) {
                        return Some(Ok(complete));
                    }
                }
            }
        }
        if self.failed { None } else { self.pending.take().map(Ok) }
    }
}
