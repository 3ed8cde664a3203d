//! Commit: what layers hold moves down into the one below them.
//!
//! The layers from `from` down to the one above `into` (by default the top into its backing file) are
//! copied into `into`. While that goes on, everything that is changed there is hidden by the layer it
//! came from. Once it is durable, the layer above `from` is put on `into`; if `from` is the top, it is
//! put there itself and emptied.

use std::path::{Path, PathBuf};

use cow_engine::ResizeOptions;

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::operation::{
    Action, Copy, LayerRef, Lineage, Moved, Owner, Piece, Plan, Refusal, Section, Step, Tally,
    Wanted, Watch, refuse_shared,
};
use crate::options::OpenOptions;

/// Longest range that is looked at at once for zeros, in bytes.
const STATUS_BYTES_MAX: u64 = 1 << 40;

/// A commit, to be planned or carried out.
///
/// ```no_run
/// use chain::{Commit, Format, OpenOptions, Watch};
///
/// let options = OpenOptions::new().format(Format::Qcow2);
/// let commit = Commit::new("overlay.qcow2", options);
/// print!("{}", commit.plan()?);
/// commit.run(Watch::none())?;
/// # Ok::<(), chain::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Commit {
    path: PathBuf,
    options: OpenOptions,
    from: LayerRef,
    into: Option<LayerRef>,
    keep: bool,
    only_data: bool,
    force: bool,
}

/// Who plays which part.
#[derive(Debug)]
struct Cast {
    lineage: Lineage,
    from: usize,
    into: usize,
}

impl Commit {
    /// Commits the top of the chain at `path` into its backing file.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, options: OpenOptions) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            options,
            from: LayerRef::Depth(0),
            into: None,
            keep: false,
            only_data: false,
            force: false,
        }
    }

    /// The uppermost layer whose data moves, instead of the top.
    #[must_use]
    pub fn from(mut self, layer: LayerRef) -> Self {
        self.from = layer;
        self
    }

    /// The layer that takes the data, instead of the backing file of [`from`](Self::from).
    #[must_use]
    pub fn into_layer(mut self, layer: LayerRef) -> Self {
        self.into = Some(layer);
        self
    }

    /// Whether the top, if it is committed, keeps what it holds.
    #[must_use]
    pub const fn keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Whether nothing happens but the copying: no layer is emptied, no header changes.
    #[must_use]
    pub const fn only_data(mut self, only: bool) -> Self {
        self.only_data = only;
        self
    }

    /// Whether other overlays in the folder, and internal snapshots, that will show other bytes
    /// afterwards are no reason to refuse.
    #[must_use]
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// What [`run`](Self::run) would do. Nothing changes.
    ///
    /// # Errors
    /// The chain cannot be opened under the policy, or [`Error::Refused`].
    pub fn plan(&self) -> Result<Plan> {
        let cast = self.cast()?;
        let source = cast.open_source(&self.options, false)?;
        let lower = cast.lineage.open(cast.into, &self.options, false, usize::MAX)?;
        let tally = Tally::of(self.pieces(&cast, &source, &lower))?;
        let mut steps = Vec::new();
        let members = &cast.lineage.members;
        let (into, needed) = (&members[cast.into], members[cast.from].size);
        if needed > into.size {
            steps.push(Step::Grow { file: into.path.clone(), from: into.size, to: needed });
        }
        steps.extend(tally.step(&source, into.path.clone()));
        if let Some(upper) = self.switched(&cast) {
            let (file, from) = (members[upper].path.clone(), members[upper].backing.clone());
            let to = Some(cast.lineage.name_for(upper, cast.into)?);
            steps.extend((from != to).then_some(Step::SwitchBacking { file, from, to }));
        }
        if self.empties(&cast) {
            steps.push(Step::Empty { file: members[0].path.clone() });
        }
        let released = cast.from.max(1)..cast.into;
        if !self.only_data {
            steps.extend(members[released].iter().map(|m| Step::Release { file: m.path.clone() }));
        }
        Ok(Plan { operation: "commit", steps })
    }

    /// Commits.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); [`Error::Cancelled`]; or a layer could not be read or written. The
    /// chain shows what it showed before, whatever happens.
    pub fn run(&self, watch: Watch<'_>) -> Result<Moved> {
        let cast = self.cast()?;
        let (empties, switched) = (self.empties(&cast), self.switched(&cast));
        let changes_source = empties || switched == Some(cast.from);
        let mut source = cast.open_source(&self.options, changes_source)?;
        let mut lower = cast.lineage.open(cast.into, &self.options, true, usize::MAX)?;
        let moved = self.move_down(&cast, &source, &mut lower, watch)?;
        // What was written is durable; only now may anybody look for it there.
        lower.close()?;
        if let Some(upper) = switched {
            let name = cast.lineage.name_for(upper, cast.into)?;
            let to = Some((name.as_str(), Some(cast.lineage.members[cast.into].format)));
            if upper == cast.from {
                source.change_backing(to, &self.options)?;
            } else {
                let mut upper = cast.lineage.open(upper, &self.options, true, 1)?;
                upper.change_backing(to, &self.options)?;
                upper.close()?;
            }
        }
        if empties {
            source.empty()?;
        }
        source.close()?;
        Ok(moved)
    }

    /// Finds out who plays which part, and whether all of them may.
    fn cast(&self) -> Result<Cast> {
        let lineage = Lineage::look(&self.path, &self.options)?;
        let from = lineage.find(&self.from, &self.options)?;
        let into = match &self.into {
            None => lineage.below(from)?,
            Some(into) => lineage.find(into, &self.options)?,
        };
        lineage.below(from)?;
        if into <= from {
            let path = |depth: usize| lineage.members[depth].path.clone();
            return Err(Error::Refused(Refusal::NotBelow { lower: path(into), upper: path(from) }));
        }
        if !self.force {
            // All of these show the changed layer where they hold nothing themselves.
            let changed: Vec<usize> = (from + 1..=into).collect();
            refuse_shared(&lineage, &changed, &self.options)?;
            lineage.members[from..into].iter().try_for_each(|m| m.refuse_snapshots())?;
        }
        Ok(Cast { lineage, from, into })
    }

    /// The layer whose header will name the one that took the data.
    fn switched(&self, cast: &Cast) -> Option<usize> {
        match cast.from {
            _ if self.only_data => None,
            // It names it already, but what it says of its identity is no longer true.
            0 => (!self.keep || cast.into > 1).then_some(0),
            from => Some(from - 1),
        }
    }

    fn empties(&self, cast: &Cast) -> bool {
        cast.from == 0 && !self.keep && !self.only_data
    }

    fn move_down(
        &self,
        cast: &Cast,
        source: &Chain,
        lower: &mut Chain,
        watch: Watch<'_>,
    ) -> Result<Moved> {
        let needed = source.virtual_size();
        if needed > lower.virtual_size() {
            lower.resize(needed, ResizeOptions::new())?;
        }
        let total = Tally::of(self.pieces(cast, source, lower))?.total();
        let read =
            |piece: &Piece, buf: &mut [u8]| source.read_at(piece.offset, buf).map(|()| Wanted::All);
        let copy = Copy { target: lower, read: &read, compress: false, watch, total };
        copy.run(self.pieces(cast, source, lower))
    }

    /// What has to be done to the lower layer.
    fn pieces<'c>(
        &self,
        cast: &Cast,
        source: &'c Chain,
        lower: &'c Chain,
    ) -> impl Iterator<Item = Result<Piece>> + use<'c> {
        let end = source.virtual_size();
        let runs = Section::new(source, cast.into - cast.from).runs(0, end);
        let pieces = runs.flat_map(move |run| match run {
            Err(error) => vec![Err(error)],
            Ok(run) => match run.owner {
                Owner::Below => Vec::new(),
                Owner::Data(depth) => {
                    let (offset, len, action) = (run.offset, run.len, Action::Data(depth));
                    vec![Ok(Piece { offset, len, action })]
                }
                Owner::Zero(_) | Owner::Behind(_) => zeros(lower, run.offset, run.offset + run.len),
            },
        });
        pieces.chain(self.zeros_behind(cast, lower, end))
    }

    /// A layer above may be larger than what is committed: behind the end of that it shows zeros, and
    /// not what a longer layer below holds there.
    fn zeros_behind(&self, cast: &Cast, lower: &Chain, end: u64) -> Vec<Result<Piece>> {
        match self.switched(cast).filter(|_| cast.from > 0) {
            None => Vec::new(),
            Some(upper) => {
                let upper = cast.lineage.members[upper].size;
                zeros(lower, end, upper.min(lower.virtual_size()))
            }
        }
    }
}

/// The parts of a range that do not read as zeros yet.
fn zeros(lower: &Chain, start: u64, end: u64) -> Vec<Result<Piece>> {
    let (mut at, mut pieces) = (start, Vec::new());
    // A disk that is still to grow reads as zeros there.
    let end = end.min(lower.virtual_size());
    while at < end {
        match lower.status_at(at, (end - at).min(STATUS_BYTES_MAX)) {
            Err(error) => {
                pieces.push(Err(error));
                break;
            }
            Ok(status) => {
                let len = status.len.clamp(1, end - at);
                if !status.zero {
                    pieces.push(Ok(Piece { offset: at, len, action: Action::Zero }));
                }
                at += len;
            }
        }
    }
    pieces
}

impl Cast {
    /// The layers whose data moves, and nothing below them.
    fn open_source(&self, options: &OpenOptions, writable: bool) -> Result<Chain> {
        self.lineage.open(self.from, options, writable, self.into - self.from)
    }
}
