//! What has to be done with each part of the disk: copy it, write zeros, or leave it alone.

use std::sync::Arc;

use chain::Chain;
use qcow2_format::Geometry;

use super::source::Source;
use super::{ConvertError, ConvertOptions, SPARSE_BYTES_MAX};

/// Bytes of a piece, unless the target's units or the run of zeros to look for are larger.
const PIECE_BYTES: u64 = 512 << 10;
/// Largest run asked about at once.
const STATUS_BYTES_MAX: u64 = 1 << 40;

/// What to do with a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read and write.
    Copy,
    /// Make the target read as zeros.
    Zero,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) action: Action,
}

/// What a run of the sources demands; `None` is "leave alone".
type Demand = Option<Action>;

/// Walks over the sources and yields pieces in guest order.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    source: &'a Source<'a>,
    options: &'a ConvertOptions,
    units: Units,
    at: u64,
    /// The rest of a run, not yet cut.
    run: Option<Piece>,
}

/// In what lengths the work is done, in bytes; all of them fit any `usize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    /// What the target allocates at once: pieces start and end at its borders. 1 for raw files.
    pub(super) cluster: u64,
    /// In what units zeros are looked for in data: whole clusters, or whole subclusters where an
    /// entry can tell them apart.
    pub(super) grain: u64,
    /// The largest piece.
    pub(super) piece: u64,
}

impl Units {
    pub(super) fn of(target: &Chain, options: &ConvertOptions) -> Self {
        let geometry = target.top().image().map(cow_engine::Image::geometry);
        let cluster = geometry.map_or(1, Geometry::cluster_bytes);
        let unit = geometry.map_or(1, Geometry::subcluster_bytes);
        let mut grain = options.sparse.clamp(1, SPARSE_BYTES_MAX).next_multiple_of(unit);
        if !cluster.is_multiple_of(grain) {
            grain = grain.next_multiple_of(cluster); // pieces consist of both
        }
        let least = grain.max(cluster);
        Self { cluster, grain, piece: PIECE_BYTES.max(least) / least * least }
    }

    /// Those of raw bytes that go to nobody knows where.
    pub(super) const fn of_bytes() -> Self {
        Self { cluster: 1, grain: 1, piece: PIECE_BYTES }
    }

    /// Whole runs of clusters, which nobody is going to hold in memory.
    pub(super) const fn of_clusters(cluster: u64) -> Self {
        Self { cluster, grain: cluster, piece: u64::MAX }
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(source: &'a Source<'a>, options: &'a ConvertOptions, units: Units) -> Self {
        Self { source, options, units, at: 0, run: None }
    }

    fn demand_at(&self, at: u64, len: u64) -> Result<(Demand, u64), ConvertError> {
        if self.options.sparse == 0 && self.options.target_backing.is_none() {
            return Ok((Some(Action::Copy), len));
        }
        let status = |len, top_only| {
            self.source
                .status_at(at, len, top_only)
                .map_err(|source| ConvertError::Status { offset: at, source: Arc::new(source) })
        };
        match self.options.target_backing {
            Some(backing) if at < backing => {
                let status = status(len.min(backing - at), true)?;
                let demand = match (status.present, status.zero) {
                    (false, _) => None,
                    (true, true) if self.options.sparse != 0 => Some(Action::Zero),
                    (true, _) => Some(Action::Copy),
                };
                Ok((demand, status.len))
            }
            backing => {
                let status = status(len, false)?;
                let reads_zero = self.options.target_is_zero || backing.is_some();
                let zero = if reads_zero { None } else { Some(Action::Zero) };
                Ok((if status.zero { zero } else { Some(Action::Copy) }, status.len))
            }
        }
    }

    /// The next run, its end moved to a border of the target's units: a unit that needs any
    /// copying is copied whole.
    fn next_run(&mut self) -> Result<Option<Piece>, ConvertError> {
        let size = self.source.size();
        while self.at < size {
            let start = self.at;
            let (mut demand, len) = self.demand_at(start, (size - start).min(STATUS_BYTES_MAX))?;
            let mut end = start + len;
            if end < size && !end.is_multiple_of(self.units.cluster) {
                let below = end - end % self.units.cluster;
                if demand != Some(Action::Copy) && below > start {
                    end = below;
                } else {
                    demand = Some(Action::Copy);
                    end = (below + self.units.cluster).min(size);
                }
            }
            self.at = end;
            if let Some(action) = demand {
                return Ok(Some(Piece { offset: start, len: end - start, action }));
            }
        }
        Ok(None)
    }

    fn cut(&mut self, run: Piece) -> Piece {
        if run.action == Action::Zero || run.len <= self.units.piece {
            return run;
        }
        // Up to the next multiple of the piece size, so that all later pieces are aligned.
        let len = (self.units.piece - run.offset % self.units.piece).min(run.len);
        if len < run.len {
            let rest = Piece { offset: run.offset + len, len: run.len - len, ..run };
            self.run = Some(rest);
        }
        Piece { len, ..run }
    }
}

impl Iterator for Planner<'_> {
    type Item = Result<Piece, ConvertError>;

    fn next(&mut self) -> Option<Self::Item> {
        let run = match self.run.take() {
            Some(rest) => rest,
            None => match self.next_run() {
                Ok(run) => run?,
                Err(error) => {
                    self.at = self.source.size(); // no more after an error
                    return Some(Err(error));
                }
            },
        };
        Some(Ok(self.cut(run)))
    }
}
