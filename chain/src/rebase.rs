//! Rebase: an overlay is put on another backing file, or on none.
//!
//! Safely, the overlay takes over what the old backing file shows and the new one does not, and then
//! its header changes; it shows the same from beginning to end. Unsafely, only the header changes.

use core::cell::RefCell;
use core::ops::Range;
use std::path::{Path, PathBuf};

use cow_engine::Image;
use qcow2_format::{Geometry, Version};

use crate::chain::Chain;
use crate::difference::{Identities, Known, Suspicion, differing, read_or_end, suspicion};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::layer::Layer;
use crate::name;
use crate::operation::{
    Action, Copy, Lineage, Member, Moved, Piece, Plan, Refusal, Step, Tally, Wanted, Watch,
    refuse_shared,
};
use crate::options::OpenOptions;
use crate::policy::Policy;

/// A rebase, to be planned or carried out.
///
/// ```no_run
/// use chain::{Format, OpenOptions, Rebase, Watch};
///
/// let options = OpenOptions::new().format(Format::Qcow2);
/// Rebase::new("overlay.qcow2", options).onto("other-base.raw", Format::Raw).run(Watch::none())?;
/// # Ok::<(), chain::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rebase {
    path: PathBuf,
    options: OpenOptions,
    onto: Option<Onto>,
    header_only: bool,
    compress: bool,
    share: bool,
    force: bool,
}

/// The new backing file.
#[derive(Clone, Debug)]
struct Onto {
    name: String,
    format: Option<Format>,
}

/// Who plays which part.
#[derive(Debug)]
struct Cast {
    lineage: Lineage,
    /// The new lower layers.
    new: Option<Chain>,
}

thread_local! {
    /// What the new backing file shows, kept between pieces.
    static NEW_BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Rebase {
    /// Puts the image at `path` on no backing file; see [`onto`](Self::onto).
    #[must_use]
    pub fn new(path: impl AsRef<Path>, options: OpenOptions) -> Self {
        let (header_only, compress, share, force) = (false, false, false, false);
        let path = path.as_ref().to_owned();
        Self { path, options, onto: None, header_only, compress, share, force }
    }

    /// The new backing file, by the name that the header will have: relative ones are relative to the
    /// folder of the image.
    #[must_use]
    pub fn onto(mut self, name: impl Into<String>, format: Format) -> Self {
        self.onto = Some(Onto { name: name.into(), format: Some(format) });
        self
    }

    /// The same without a format in the header; only for [`header_only`](Self::header_only).
    #[must_use]
    pub fn onto_unknown(mut self, name: impl Into<String>) -> Self {
        self.onto = Some(Onto { name: name.into(), format: None });
        self
    }

    /// Whether only the header changes. The image shows other bytes afterwards unless old and new
    /// backing file show the same.
    #[must_use]
    pub const fn header_only(mut self, only: bool) -> Self {
        self.header_only = only;
        self
    }

    /// Whether what is taken over is compressed.
    #[must_use]
    pub const fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Whether the new backing file is read although somebody may be writing to it.
    #[must_use]
    pub const fn force_share(mut self, share: bool) -> Self {
        self.share = share;
        self
    }

    /// Whether internal snapshots that will show other bytes afterwards are no reason to refuse, and, where
    /// only the header changes, not even that the image would be its own backing file.
    #[must_use]
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// What [`run`](Self::run) would do. Nothing changes, and no data is read: how much of it differs
    /// is not known before.
    ///
    /// # Errors
    /// A chain cannot be opened under the policy, or [`Error::Refused`].
    pub fn plan(&self) -> Result<Plan> {
        let (mut steps, to) = (Vec::new(), self.onto.as_ref().map(|onto| onto.name.clone()));
        let (file, from) = if self.header_only {
            let image = self.open_alone(false)?;
            image.check_backing(self.reference())?;
            (image.top().path().to_owned(), image.top().backing_name())
        } else {
            let cast = self.cast()?;
            let old = cast.lineage.open(0, &self.options, false, usize::MAX)?;
            old.check_backing(self.reference())?;
            let new = cast.new.as_ref();
            let tally = Tally::of(pieces(&old, new)?)?;
            if tally.data() > 0 && new.is_some() {
                let path = |layer: &Layer| layer.path().to_owned();
                let files = old.layers().skip(1).chain(new.iter().flat_map(|new| new.layers()));
                steps.push(Step::compare(files.map(path), tally.data()));
            }
            steps.extend(tally.step(&old, cast.lineage.top().path.clone()));
            let top = cast.lineage.top();
            (top.path.clone(), top.backing.clone())
        };
        steps.push(Step::SwitchBacking { file, from, to });
        Ok(Plan { operation: "rebase", steps })
    }

    /// Rebases.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); [`Error::Cancelled`]; or a layer could not be read or written. The
    /// image shows what it showed before, unless only the header was to change.
    pub fn run(&self, watch: Watch<'_>) -> Result<Moved> {
        if self.header_only {
            let mut image = self.open_alone(true)?;
            self.switch(&mut image)?;
            image.close()?;
            return Ok(Moved::default());
        }
        let cast = self.cast()?;
        let mut image = cast.lineage.open(0, &self.options, true, usize::MAX)?;
        image.check_backing(self.reference())?;
        let moved = self.take_over(&image, cast.new.as_ref(), watch)?;
        image.flush()?;
        self.switch(&mut image)?;
        image.close()?;
        Ok(moved)
    }

    fn open_alone(&self, writable: bool) -> Result<Chain> {
        let options = self.options.clone().read_only(!writable).backing(false);
        let image = Chain::open(&self.path, &options)?;
        self.check_image(&image)?;
        if !self.force && self.names_itself(&image)? {
            return Err(Error::Refused(Refusal::OwnBacking { layer: self.path.clone() }));
        }
        if !self.force {
            let alone = Lineage { members: vec![Member::of(image.top())?] };
            refuse_shared(&alone, &[0], &self.options)?;
        }
        Ok(image)
    }

    /// Whether the new backing file, which need not even exist, is the image itself.
    fn names_itself(&self, image: &Chain) -> Result<bool> {
        let Some(onto) = &self.onto else { return Ok(false) };
        let Ok(path) = name::resolve(&self.path, &onto.name) else { return Ok(false) };
        let host = block_io::OpenOptions::new().locking(block_io::Locking::Off);
        let found = self.options.host().open(&path, &host).and_then(|file| file.identity());
        let top = Member::of(image.top())?;
        Ok(found.is_ok_and(|found| found.is_some() && found == top.id))
    }

    fn switch(&self, image: &mut Chain) -> Result<()> {
        image.change_backing(self.reference(), &self.options)
    }

    /// What the header will say.
    fn reference(&self) -> Option<(&str, Option<Format>)> {
        self.onto.as_ref().map(|onto| (onto.name.as_str(), onto.format))
    }

    fn check_image(&self, image: &Chain) -> Result<()> {
        if image.top().image().is_none() {
            return Err(Error::Refused(Refusal::Raw { layer: self.path.clone() }));
        }
        Ok(())
    }

    fn cast(&self) -> Result<Cast> {
        let lineage = Lineage::look(&self.path, &self.options)?;
        let top = lineage.top();
        if top.format == Format::Raw {
            return Err(Error::Refused(Refusal::Raw { layer: self.path.clone() }));
        }
        if self.compress && top.has_data_file {
            return Err(Error::Refused(Refusal::NotCompressible { layer: self.path.clone() }));
        }
        let new = match &self.onto {
            None => None,
            Some(onto) => Some(self.open_new(onto, &lineage)?),
        };
        if !self.force {
            refuse_shared(&lineage, &[0], &self.options)?;
            top.refuse_snapshots()?;
        }
        Ok(Cast { lineage, new })
    }

    /// Opens what the image will rest on, which must not be itself.
    fn open_new(&self, onto: &Onto, lineage: &Lineage) -> Result<Chain> {
        let path = name::resolve(&self.path, &onto.name)?;
        let share = |policy: Policy| match self.share {
            true => policy.force_share(true),
            false => policy,
        };
        let options = self.options.clone().for_lower().read_only(true).map_policy(share);
        let options = match onto.format {
            Some(format) => options.format(format),
            None => options,
        };
        let new = Chain::open(&path, &options)?;
        // Data files count too, and all of it in whatever format: what is written to the image would show
        // there.
        for layer in new.layers() {
            if lineage.top().shares_file_with(&Member::of(layer)?) {
                return Err(Error::Refused(Refusal::OwnBacking { layer: self.path.clone() }));
            }
        }
        Ok(new)
    }

    /// Takes over what the new lower layers do not show.
    fn take_over(&self, image: &Chain, new: Option<&Chain>, watch: Watch<'_>) -> Result<Moved> {
        let geometry = image.top().image().map(Image::geometry);
        let unit = match self.compress {
            true => geometry.map_or(0, Geometry::cluster_bytes),
            // A part of a cluster that is written costs a copy of the rest: better all of it at once.
            false => geometry.map_or(0, Geometry::subcluster_bytes),
        };
        let read = |piece: &Piece, buf: &mut [u8]| {
            image.read_at(piece.offset, buf)?;
            NEW_BYTES.with_borrow_mut(|bytes| {
                bytes.resize(buf.len(), 0);
                read_or_end(new, piece.offset, bytes)?;
                Ok(Wanted::Parts(differing(piece.offset, buf, bytes, unit as usize)))
            })
        };
        let total = Tally::of(pieces(image, new)?)?.total();
        let copy = Copy { target: image, read: &read, compress: self.compress, watch, total };
        copy.run(pieces(image, new)?)
    }
}

/// What the image does not own and the new lower layers may not show.
fn pieces<'c>(
    image: &'c Chain,
    new: Option<&'c Chain>,
) -> Result<impl Iterator<Item = Result<Piece>> + use<'c>> {
    let ids = (Identities::of(image)?, new.map(Identities::of).transpose()?);
    let (mut at, end) = (0, image.virtual_size());
    let mut known = (Known::default(), Known::default());
    Ok(core::iter::from_fn(move || {
        while at < end {
            let offset = at;
            match look((image, new), &ids, &mut known, at..end) {
                Err(error) => {
                    at = end; // no more after an error
                    return Some(Err(error));
                }
                Ok((len, action)) => {
                    at += len;
                    if let Some(action) = action {
                        return Some(Ok(Piece { offset, len, action }));
                    }
                }
            }
        }
        None
    }))
}

fn look(
    (image, new): (&Chain, Option<&Chain>),
    ids: &(Identities, Option<Identities>),
    known: &mut (Known, Known),
    range: Range<u64>,
) -> Result<(u64, Option<Action>)> {
    let old = known.0.look(Some(image), range.clone())?;
    if old.present && old.depth == 0 {
        return Ok((old.len, None));
    }
    let new = known.1.look(new, range)?;
    let action = match suspicion((&old, &ids.0), (&new, ids.1.as_ref())) {
        Suspicion::None => None,
        Suspicion::OldIsZero if can_hide(image) => Some(Action::Zero),
        Suspicion::OldIsZero | Suspicion::Compare => Some(Action::Data(old.depth)),
    };
    Ok((old.len.min(new.len), action))
}

/// Whether the image can say "zeros" over a backing file that it does not have yet. Version 2 cannot: it
/// gives up clusters that become zeros while nothing lies below them.
fn can_hide(image: &Chain) -> bool {
    image.top().header().is_some_and(|header| header.version() != Version::V2)
}
