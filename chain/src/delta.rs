//! Delta: what a newer disk shows and an older one does not, as a new overlay on the older one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cow_engine::CreateOptions;

use crate::chain::Chain;
use crate::difference::{Difference, differing, read_or_end};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::operation::{Copy, Moved, Piece, Plan, Refusal, Step, Tally, Wanted, Watch};
use crate::options::OpenOptions;
use crate::overlay::{Overlays, name_beside};

/// A delta, to be planned or made.
#[derive(Clone, Debug)]
pub struct Delta {
    older: (PathBuf, OpenOptions),
    newer: (PathBuf, OpenOptions),
    path: PathBuf,
}

impl Delta {
    /// A new overlay at `path` over the older disk, which shows what the newer one shows.
    #[must_use]
    pub fn new(
        older: impl AsRef<Path>,
        older_options: OpenOptions,
        newer: impl AsRef<Path>,
        newer_options: OpenOptions,
        path: impl AsRef<Path>,
    ) -> Self {
        let older = (older.as_ref().to_owned(), older_options.read_only(true));
        let newer = (newer.as_ref().to_owned(), newer_options.read_only(true));
        Self { older, newer, path: path.as_ref().to_owned() }
    }

    /// What [`run`](Self::run) would do. Nothing changes, and no data is read: how much of it differs
    /// is not known before.
    ///
    /// # Errors
    /// A chain cannot be opened under its policy, or the overlay is impossible.
    pub fn plan(&self) -> Result<Plan> {
        let (older, newer) = self.open()?;
        let mut steps = self.overlay(&newer, &self.path).plan()?.steps;
        let tally = Tally::of(Difference::between(&older, &newer).pieces()?)?;
        if tally.data() > 0 {
            let files = older.layers().chain(newer.layers());
            let files = files.map(|layer| layer.path().to_owned());
            steps.push(Step::compare(files, tally.data()));
        }
        steps.extend(tally.step(&newer, self.path.clone()));
        Ok(Plan { operation: "delta", steps })
    }

    /// Makes the delta. It gets its name when it is complete and durable; if anything fails, no overlay
    /// is left.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan); [`Error::Cancelled`](crate::Error::Cancelled); or reading or writing
    /// failed.
    pub fn run(&self, watch: Watch<'_>) -> Result<Moved> {
        let (older, newer) = self.open()?;
        self.overlay(&newer, &self.path).check_names()?;
        let made = name_beside(&self.path);
        self.overlay(&newer, &made).create()?;
        let filled = self.fill(&made, (&older, &newer), watch);
        let named = filled.and_then(|moved| self.name(&made).map(|()| moved));
        if named.is_err() {
            // It was made here, moments ago.
            let _ = self.older.1.host().remove(&made);
        }
        named
    }

    /// Gives the overlay its name, which somebody may have taken meanwhile.
    fn name(&self, made: &Path) -> Result<()> {
        let (host, path) = (self.older.1.host(), self.path.clone());
        match host.rename_new(made, &self.path) {
            Ok(()) => {}
            Err(source) if source.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Refused(Refusal::Exists { path }));
            }
            Err(source) => return Err(Error::Storage { layer: path, source }),
        }
        host.sync_folder(&self.path).map_err(|source| Error::Storage { layer: path, source })
    }

    fn open(&self) -> Result<(Chain, Chain)> {
        let open = |(path, options): &(PathBuf, OpenOptions)| Chain::open(path, options);
        Ok((open(&self.older)?, open(&self.newer)?))
    }

    fn overlay(&self, newer: &Chain, path: &Path) -> Overlays {
        let like = CreateOptions::new(newer.virtual_size());
        Overlays::new().on(&self.older.0, self.older.1.clone(), [path]).like(like)
    }

    fn fill(
        &self,
        path: &Path,
        (older, newer): (&Chain, &Chain),
        watch: Watch<'_>,
    ) -> Result<Moved> {
        let options = self.older.1.clone().for_lower().format(Format::Qcow2).read_only(false);
        let target = Chain::open(path, &options)?;
        let unit = target.top().image().map_or(512, |image| image.geometry().cluster_bytes());
        let end = target.virtual_size();
        let difference = Difference::between(older, newer);
        let pieces = || -> Result<_> {
            // Behind the end of the newer disk there is no overlay that could show anything.
            let inside = move |piece: Piece| {
                let len = piece.len.min(end.saturating_sub(piece.offset));
                (len > 0).then_some(Piece { len, ..piece })
            };
            Ok(difference.pieces()?.filter_map(move |piece| piece.map(inside).transpose()))
        };
        let read = |piece: &Piece, buf: &mut [u8]| {
            let mut old = vec![0; buf.len()];
            read_or_end(Some(newer), piece.offset, buf)?;
            read_or_end(Some(older), piece.offset, &mut old)?;
            Ok(Wanted::Parts(differing(piece.offset, &old, buf, unit as usize)))
        };
        let total = Tally::of(pieces()?)?.total();
        let copy = Copy { target: &target, read: &read, compress: false, watch, total };
        let moved = copy.run(pieces()?)?;
        target.close()?;
        Ok(moved)
    }
}
