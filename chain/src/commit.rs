//! Commit: what layers hold moves down into the one below them.
//!
//! The layers from `from` down to the one above `into` (by default the top into its backing file) are
//! copied into `into`. While that goes on, everything that is changed there is hidden by the layer it
//! came from. Once it is durable, the layer above `from` is put on `into`; if `from` is the top, it is
//! put there itself and emptied.

use core::ops::Range;
use std::path::{Path, PathBuf};

use cow_engine::ResizeOptions;

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::operation::{
    Action, Copy, LayerRef, Lineage, Member, Moved, Owner, Piece, Plan, Refusal, Run, Section,
    Step, Tally, Wanted, Watch, refuse_shared,
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
        self.refuse_disguise(&cast, &source)?;
        let lower = cast.lineage.open(cast.into, &self.options, false, usize::MAX)?;
        let tally = Tally::of(self.pieces(&cast, &source, &lower))?;
        let mut steps = Vec::new();
        let members = &cast.lineage.members;
        let (into, needed) = (&members[cast.into], members[cast.from].size);
        if needed > into.size {
            steps.push(Step::Grow { file: into.path.clone(), from: into.size, to: needed });
        }
        steps.extend(tally.step(&source, into.path.clone()));
        if let Some((upper, name)) = self.switch(&cast)? {
            let open = |depth| cast.lineage.open(depth, &self.options, false, 1);
            let alone = (upper != cast.from).then(|| open(upper)).transpose()?;
            alone.as_ref().unwrap_or(&source).check_backing(cast.reference(&name))?;
            let (file, from) = (members[upper].path.clone(), members[upper].backing.clone());
            let to = Some(name);
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
        let (empties, switch) = (self.empties(&cast), self.switch(&cast)?);
        let switches = |depth| switch.as_ref().is_some_and(|(upper, _)| *upper == depth);
        let mut source = cast.open_source(&self.options, empties || switches(cast.from))?;
        self.refuse_disguise(&cast, &source)?;
        // Whoever cannot change its header in the end, or finds no room there, is to say so now.
        let mut upper = match &switch {
            Some((upper, _)) if *upper != cast.from => {
                Some(cast.lineage.open(*upper, &self.options, true, 1)?)
            }
            _ => None,
        };
        if let Some((_, name)) = &switch {
            upper.as_ref().unwrap_or(&source).check_backing(cast.reference(name))?;
        }
        let mut lower = cast.lineage.open(cast.into, &self.options, true, usize::MAX)?;
        let moved = self.move_down(&cast, &source, &mut lower, watch)?;
        // What was written is durable; only now may anybody look for it there.
        lower.close()?;
        if let Some((_, name)) = &switch {
            let named = upper.as_mut().unwrap_or(&mut source);
            named.change_backing(cast.reference(name), &self.options)?;
        }
        if empties {
            source.empty()?;
        }
        upper.map_or(Ok(()), Chain::close)?;
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
            // Layers in between show the changed one where they hold nothing themselves.
            let mut changed: Vec<usize> = (from + 1..=into).collect();
            changed.extend(self.switched_upper(from, into));
            refuse_shared(&lineage, &changed, &self.options)?;
            lineage.members[from..into].iter().try_for_each(Member::refuse_snapshots)?;
        }
        Ok(Cast { lineage, from, into })
    }

    /// A guest that decides what a raw file begins with decides what the next guess makes of it.
    fn refuse_disguise(&self, cast: &Cast, source: &Chain) -> Result<()> {
        let (into, namer) =
            (&cast.lineage.members[cast.into], &cast.lineage.members[cast.into - 1]);
        let guessed = !namer.says_format && self.options.backing_format.is_none();
        if into.format != Format::Raw || !guessed {
            return Ok(());
        }
        let mut head = [0; 8];
        let len = source.virtual_size().min(head.len() as u64) as usize;
        source.read_at(0, &mut head[..len])?;
        match Format::probe(&head) {
            Format::Raw => Ok(()),
            Format::Qcow2 => Err(Error::Refused(Refusal::Disguise { layer: into.path.clone() })),
        }
    }

    /// The layer whose header will name the one that took the data.
    fn switched(&self, cast: &Cast) -> Option<usize> {
        self.switched_upper(cast.from, cast.into)
    }

    fn switched_upper(&self, from: usize, into: usize) -> Option<usize> {
        match from {
            _ if self.only_data => None,
            // It names it already, but what it says of its identity is no longer true.
            0 => (!self.keep || into > 1).then_some(0),
            from => Some(from - 1),
        }
    }

    /// That layer, and what it will call the one that took the data.
    fn switch(&self, cast: &Cast) -> Result<Option<(usize, String)>> {
        let name = |upper| Ok((upper, cast.lineage.name_for(upper, cast.into)?));
        self.switched(cast).map(name).transpose()
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
        let empties = self.empties(cast);
        let read = |piece: &Piece, buf: &mut [u8]| {
            source.read_at(piece.offset, buf)?;
            if empties && piece.action == Action::Data(0) {
                forget(source, piece)?;
            }
            Ok(Wanted::All)
        };
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
        let pieces = runs.flat_map(move |run| {
            let (piece, hidden) = match run {
                Err(error) => (Some(Err(error)), 0..0),
                Ok(Run { offset, len, owner }) => match owner {
                    Owner::Below => (None, 0..0),
                    Owner::Data(depth) => {
                        (Some(Ok(Piece { offset, len, action: Action::Data(depth) })), 0..0)
                    }
                    Owner::Zero(_) | Owner::Behind(_) => (None, offset..offset + len),
                },
            };
            piece.into_iter().chain(zeros(lower, hidden))
        });
        pieces.chain(zeros(lower, self.hidden_behind(cast, lower, end)))
    }

    /// A layer above may be larger than what is committed: behind the end of that it shows zeros, and
    /// not what a longer layer below holds there.
    fn hidden_behind(&self, cast: &Cast, lower: &Chain, end: u64) -> Range<u64> {
        match self.switched(cast).filter(|_| cast.from > 0) {
            None => 0..0,
            Some(upper) => end..cast.lineage.members[upper].size.min(lower.virtual_size()),
        }
    }
}

/// What will be cut off once it is below is not kept in memory until then: the cut takes less time, and
/// the time it takes now passes beside the writing.
fn forget(source: &Chain, piece: &Piece) -> Result<()> {
    let status = source.top_status_at(piece.offset, piece.len)?;
    if let Some(host) = status.host_offset.filter(|_| !status.zero) {
        source.top().data_storage().forget_cached(host, status.len);
    }
    Ok(())
}

/// The parts of a range that do not read as zeros yet, one after the other: there may be many.
fn zeros(lower: &Chain, range: Range<u64>) -> impl Iterator<Item = Result<Piece>> + use<'_> {
    // A disk that is still to grow reads as zeros there.
    let (mut at, end) = (range.start, range.end.min(lower.virtual_size()));
    core::iter::from_fn(move || {
        while at < end {
            let offset = at;
            let status = match lower.status_at(at, (end - at).min(STATUS_BYTES_MAX)) {
                Ok(status) => status,
                Err(error) => {
                    at = end; // no more after an error
                    return Some(Err(error));
                }
            };
            let len = status.len.clamp(1, end - at);
            at += len;
            if !status.zero {
                return Some(Ok(Piece { offset, len, action: Action::Zero }));
            }
        }
        None
    })
}

impl Cast {
    /// What a header will say of the layer that takes the data, which it calls by this name.
    fn reference<'n>(&self, name: &'n str) -> Option<(&'n str, Option<Format>)> {
        Some((name, Some(self.lineage.members[self.into].format)))
    }

    /// The layers whose data moves, and nothing below them.
    fn open_source(&self, options: &OpenOptions, writable: bool) -> Result<Chain> {
        self.lineage.open(self.from, options, writable, self.into - self.from)
    }
}
