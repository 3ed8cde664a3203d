//! Stream: what lower layers hold is pulled up into a layer, which then rests on what lies below them,
//! or on nothing (flatten).
//!
//! The layer shows the same from beginning to end: what it takes over, it showed before. Once all of it
//! is durable, its header changes.

use std::path::{Path, PathBuf};

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::operation::{
    Action, Copy, LayerRef, Lineage, Moved, Owner, Piece, Plan, Refusal, Section, Step, Tally,
    Wanted, Watch, refuse_shared,
};
use crate::options::OpenOptions;

/// A stream, to be planned or carried out.
///
/// ```no_run
/// use chain::{Format, OpenOptions, Stream, Watch};
///
/// // Flatten: the overlay holds everything afterwards, and rests on nothing.
/// let options = OpenOptions::new().format(Format::Qcow2);
/// Stream::new("overlay.qcow2", options).run(Watch::none())?;
/// # Ok::<(), chain::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    path: PathBuf,
    options: OpenOptions,
    into: LayerRef,
    base: Option<LayerRef>,
    force: bool,
}

/// Who plays which part.
#[derive(Debug)]
struct Cast {
    lineage: Lineage,
    into: usize,
    /// The first layer that stays below; the depth of the chain if none does.
    base: usize,
}

impl Stream {
    /// Pulls everything below the top of the chain at `path` up into it.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, options: OpenOptions) -> Self {
        let (path, into) = (path.as_ref().to_owned(), LayerRef::Depth(0));
        Self { path, options, into, base: None, force: false }
    }

    /// The layer that takes the data, instead of the top.
    #[must_use]
    pub fn into_layer(mut self, layer: LayerRef) -> Self {
        self.into = layer;
        self
    }

    /// The layer that stays below, instead of none.
    #[must_use]
    pub fn base(mut self, layer: LayerRef) -> Self {
        self.base = Some(layer);
        self
    }

    /// Whether overlays in the folder that rest on the layer, and internal snapshots of it that will show
    /// other bytes afterwards, are no reason to refuse.
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
        let members = &cast.lineage.members;
        let chain = cast.lineage.open(cast.into, &self.options, false, usize::MAX)?;
        let into = &members[cast.into];
        let mut steps = Vec::new();
        steps.extend(Tally::of(cast.pieces(&chain))?.step(&chain, into.path.clone()));
        if cast.has_work() {
            let to = cast.base_name()?;
            chain.check_backing(cast.base_reference(to.as_deref()))?;
            let (file, from) = (into.path.clone(), into.backing.clone());
            steps.push(Step::SwitchBacking { file, from, to });
        }
        let released = members[cast.into + 1..cast.base].iter();
        steps.extend(released.map(|member| Step::Release { file: member.path.clone() }));
        Ok(Plan { operation: "stream", steps })
    }

    /// Streams.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); [`Error::Cancelled`]; or a layer could not be read or written. The
    /// chain shows what it showed before, whatever happens.
    pub fn run(&self, watch: Watch<'_>) -> Result<Moved> {
        let cast = self.cast()?;
        let mut chain = cast.lineage.open(cast.into, &self.options, true, usize::MAX)?;
        if !cast.has_work() {
            chain.close()?;
            return Ok(Moved::default());
        }
        let name = cast.base_name()?;
        let to = cast.base_reference(name.as_deref());
        chain.check_backing(to)?;
        let total = Tally::of(cast.pieces(&chain))?.total();
        let read =
            |piece: &Piece, buf: &mut [u8]| chain.read_at(piece.offset, buf).map(|()| Wanted::All);
        let copy = Copy { target: &chain, read: &read, compress: false, watch, total };
        let moved = copy.run(cast.pieces(&chain))?;
        chain.flush()?;
        chain.change_backing(to, &self.options)?;
        chain.close()?;
        Ok(moved)
    }

    fn cast(&self) -> Result<Cast> {
        let lineage = Lineage::look(&self.path, &self.options)?;
        let into = lineage.find(&self.into, &self.options)?;
        lineage.below(into)?;
        let base = match &self.base {
            None => lineage.members.len(),
            Some(base) => lineage.find(base, &self.options)?,
        };
        if base <= into {
            let path = |depth: usize| lineage.members[depth].path.clone();
            return Err(Error::Refused(Refusal::NotBelow { lower: path(base), upper: path(into) }));
        }
        if !self.force && base > into + 1 {
            refuse_shared(&lineage, &[into], &self.options)?;
            lineage.members[into].refuse_snapshots()?;
        }
        Ok(Cast { lineage, into, base })
    }
}

impl Cast {
    /// Whether any layer goes away.
    fn has_work(&self) -> bool {
        self.base > self.into + 1
    }

    fn base_name(&self) -> Result<Option<String>> {
        if self.base == self.lineage.members.len() {
            return Ok(None);
        }
        self.lineage.name_for(self.into, self.base).map(Some)
    }

    /// What the header will say of the base that it calls by this name.
    fn base_reference<'n>(&self, name: Option<&'n str>) -> Option<(&'n str, Option<Format>)> {
        let format = self.lineage.members.get(self.base).map(|base| base.format);
        name.map(|name| (name, format))
    }

    /// What the layer has to take over: what others above the base own, zeros too if the base would
    /// show otherwise.
    fn pieces<'c>(&self, chain: &'c Chain) -> impl Iterator<Item = Result<Piece>> + use<'c> {
        let layers = self.base - self.into;
        let has_base = self.base < self.lineage.members.len();
        let runs = Section::new(chain, layers).runs(0, chain.virtual_size());
        runs.filter_map(move |run| {
            let run = match run {
                Ok(run) => run,
                Err(error) => return Some(Err(error)),
            };
            let action = match run.owner {
                Owner::Data(depth) if depth > 0 => Action::Data(depth),
                Owner::Zero(depth) if depth > 0 && has_base => Action::Zero,
                Owner::Behind(_) if has_base => Action::Zero,
                _ => return None,
            };
            Some(Ok(Piece { offset: run.offset, len: run.len, action }))
        })
    }
}
