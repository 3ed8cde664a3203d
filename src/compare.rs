//! Comparing what two chains show a guest, in parallel, with the first difference as answer.

mod work;

use std::fmt;
use std::sync::Arc;

use chain::{Chain, Error as ChainError, Status};
use rayon::prelude::*;

use work::Work;

/// What to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompareOptions {
    /// Sizes and allocation must agree too.
    pub strict: bool,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Comparison {
    /// The images have different sizes, and agree as far as the shorter one goes.
    pub size_mismatch: bool,
    /// The first difference, if any.
    pub difference: Option<Difference>,
}

/// The first difference between two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Strict: one is larger.
    Size,
    /// Strict: the same bytes, stored in different ways.
    Status {
        /// First guest byte of the run.
        offset: u64,
    },
    /// Different bytes.
    Content {
        /// First guest byte of the 512-byte block that differs.
        offset: u64,
    },
}

/// Which of the two images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CompareError {
    /// What is allocated could not be learned.
    Status {
        /// Of which image.
        side: Side,
        /// Guest byte asked about.
        offset: u64,
        /// Why.
        source: Arc<ChainError>,
    },
    /// Bytes could not be read.
    Read {
        /// Of which image.
        side: Side,
        /// First guest byte of the request.
        offset: u64,
        /// Why.
        source: Arc<ChainError>,
    },
}

impl fmt::Display for CompareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { offset, source, .. } => {
                write!(f, "cannot tell what is allocated at guest offset {offset}: {source}")
            }
            Self::Read { offset, source, .. } => {
                write!(f, "error while reading guest offset {offset}: {source}")
            }
        }
    }
}

impl std::error::Error for CompareError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Status { source, .. } | Self::Read { source, .. } => Some(source.as_ref()),
        }
    }
}

/// Pieces examined between two progress reports, spread over the threads of rayon.
const BATCH: usize = 32;

/// Compares two chains. `progress` is told how many bytes of the longer one are behind us.
///
/// # Errors
/// An image could not be read.
pub fn compare(
    first: &Chain,
    second: &Chain,
    options: CompareOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Comparison, CompareError> {
    let sizes = (first.virtual_size(), second.virtual_size());
    let size_mismatch = sizes.0 != sizes.1;
    if options.strict && size_mismatch {
        return Ok(Comparison { size_mismatch, difference: Some(Difference::Size) });
    }
    let mut sweep = Sweep { first, second, batch: Vec::with_capacity(BATCH), progress };
    let common = sizes.0.min(sizes.1);
    if let Some(difference) = sweep.common_part(common, options.strict)? {
        return Ok(Comparison { size_mismatch: false, difference: Some(difference) });
    }
    let difference = sweep.tail(common, sizes.0.max(sizes.1))?;
    Ok(Comparison { size_mismatch, difference })
}

/// One walk over both images: runs are found in order, their bytes examined in parallel.
struct Sweep<'a> {
    first: &'a Chain,
    second: &'a Chain,
    batch: Vec<Work>,
    progress: &'a mut dyn FnMut(u64),
}

impl Sweep<'_> {
    fn common_part(&mut self, end: u64, strict: bool) -> Result<Option<Difference>, CompareError> {
        let mut at = 0;
        while at < end {
            let a = self.status(Side::First, at, end - at)?;
            let b = self.status(Side::Second, at, end - at)?;
            if strict && !self.same_status(at, &a, &b) {
                let earlier = self.examine(at)?;
                return Ok(Some(earlier.unwrap_or(Difference::Status { offset: at })));
            }
            let len = a.len.min(b.len);
            if let Some(difference) = self.push(Work::between(at, len, &a, &b))? {
                return Ok(Some(difference));
            }
            at += len;
        }
        self.examine(end)
    }

    /// The longer image beyond the shorter one: must read as zeros.
    fn tail(&mut self, start: u64, end: u64) -> Result<Option<Difference>, CompareError> {
        let side = if self.first.virtual_size() == end { Side::First } else { Side::Second };
        let mut at = start;
        while at < end {
            let status = self.status(side, at, end - at)?;
            if let Some(difference) = self.push(Work::alone(at, side, &status))? {
                return Ok(Some(difference));
            }
            at += status.len;
        }
        self.examine(end)
    }

    fn chain(&self, side: Side) -> &Chain {
        match side {
            Side::First => self.first,
            Side::Second => self.second,
        }
    }

    fn status(&self, side: Side, offset: u64, len: u64) -> Result<Status, CompareError> {
        let status = self
            .chain(side)
            .status_at(offset, len)
            .map_err(|source| CompareError::Status { side, offset, source: Arc::new(source) })?;
        Ok(Status { len: status.len.clamp(1, len), ..status })
    }

    /// What strict mode calls the same: flags, whether there is a host offset, and, as in the
    /// reference implementation, whether the run reaches the end of its image.
    fn same_status(&self, at: u64, a: &Status, b: &Status) -> bool {
        let flags = |status: &Status, side| {
            let ends = at + status.len == self.chain(side).virtual_size();
            let Status { present, zero, data, compressed, host_offset, .. } = *status;
            (present, zero, data, compressed, host_offset.is_some(), ends)
        };
        flags(a, Side::First) == flags(b, Side::Second)
    }

    /// Queues a run, in pieces; examines the queue whenever it is full.
    fn push(&mut self, work: Option<Work>) -> Result<Option<Difference>, CompareError> {
        for piece in work.into_iter().flat_map(Work::pieces) {
            self.batch.push(piece);
            if self.batch.len() == BATCH
                && let Some(difference) = self.examine(piece.end())?
            {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    /// Examines what is queued; everything before `behind` is then decided.
    fn examine(&mut self, behind: u64) -> Result<Option<Difference>, CompareError> {
        let (first, second) = (self.first, self.second);
        let found = self
            .batch
            .par_iter()
            .map(|work| work.examine(first, second))
            .find_first(|result| !matches!(result, Ok(None)));
        self.batch.clear();
        let offset = found.transpose()?.flatten();
        if offset.is_none() {
            (self.progress)(behind);
        }
        Ok(offset.map(|offset| Difference::Content { offset }))
    }
}
