//! `Lineage`: who is who in a chain, before anything is opened for an operation.

use core::fmt;
use std::path::{Path, PathBuf};

use block_io::{FileId, Storage};
use cow_engine::Image;

use super::refusal::Refusal;
use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::layer::Layer;
use crate::name;
use crate::options::OpenOptions;

/// A layer of a chain, as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerRef {
    /// By its depth, 0 for the top.
    Depth(usize),
    /// By its file, whatever path leads there.
    File(PathBuf),
}

impl fmt::Display for LayerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth(depth) => write!(f, "depth {depth}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What is remembered of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) path: PathBuf,
    pub(crate) format: Format,
    pub(crate) id: Option<FileId>,
    /// Of its external data file, if it has one.
    pub(crate) data_id: Option<FileId>,
    pub(crate) size: u64,
    /// As its header says it.
    pub(crate) backing: Option<String>,
    /// Whether its header says in which format its backing file is.
    pub(crate) says_format: bool,
    pub(crate) snapshots: u32,
    /// Whether its guest data lies in a file of its own.
    pub(crate) has_data_file: bool,
}

/// The layers of a chain, top first; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    pub(crate) members: Vec<Member>,
}

impl Member {
    pub(crate) fn of(layer: &Layer) -> Result<Self> {
        let failed = |source| layer.storage_error(source);
        let id = layer.storage().identity().map_err(failed)?;
        let data = layer.image().map(Image::data_storage);
        let data_id = data.map(|data| data.identity().map_err(failed)).transpose()?.flatten();
        Ok(Self {
            path: layer.path().to_owned(),
            format: layer.format(),
            id,
            data_id: data_id.filter(|data| Some(*data) != id),
            size: layer.virtual_size(),
            backing: layer.backing_name(),
            says_format: layer.backing_format().is_some(),
            snapshots: layer.header().map_or(0, qcow2_format::Header::snapshot_count),
            has_data_file: layer.header().is_some_and(|header| {
                header.requires(qcow2_format::IncompatibleFeatures::EXTERNAL_DATA_FILE)
            }),
        })
    }

    /// Whether this layer and another one keep anything in one file.
    pub(crate) fn shares_file_with(&self, other: &Self) -> bool {
        let mut files = [self.id, self.data_id].into_iter().flatten();
        files.any(|file| other.id == Some(file) || other.data_id == Some(file))
    }

    /// Opens this layer with at most so many layers in all, and makes sure that it still is the one
    /// that was looked at.
    pub(crate) fn open(
        &self,
        options: &OpenOptions,
        writable: bool,
        layers: usize,
    ) -> Result<Chain> {
        let options = options.clone().format(self.format).read_only(!writable).layers_max(layers);
        let chain = Chain::open(&self.path, &options)?;
        let now = Self::of(chain.top())?;
        let same = (now.id, now.size, &now.backing) == (self.id, self.size, &self.backing);
        if same {
            Ok(chain)
        } else {
            Err(Error::Refused(Refusal::Changed { layer: self.path.clone() }))
        }
    }

    /// Refuses a layer whose internal snapshots would show something else when what lies below them
    /// changes.
    pub(crate) fn refuse_snapshots(&self) -> Result<()> {
        match self.snapshots {
            0 => Ok(()),
            count => {
                let layer = self.path.clone();
                Err(Error::Refused(Refusal::InternalSnapshots { layer, count }))
            }
        }
    }
}

impl Lineage {
    /// Looks at the chain of `path` and closes it again.
    pub(crate) fn look(path: &Path, options: &OpenOptions) -> Result<Self> {
        let chain = Chain::open(path, &options.clone().read_only(true))?;
        let members = chain.layers().map(Member::of).collect::<Result<_>>()?;
        Ok(Self { members })
    }

    /// Opens the layer at `depth` with at most so many layers in all; see [`Member::open`].
    pub(crate) fn open(
        &self,
        depth: usize,
        options: &OpenOptions,
        writable: bool,
        layers: usize,
    ) -> Result<Chain> {
        let member = &self.members[depth];
        match depth {
            0 => member.open(options, writable, layers),
            _ => member.open(&options.clone().for_lower(), writable, layers),
        }
    }

    pub(crate) fn top(&self) -> &Member {
        &self.members[0] // never empty
    }

    /// The depth of the layer that somebody names.
    pub(crate) fn find(&self, wanted: &LayerRef, options: &OpenOptions) -> Result<usize> {
        let found = match wanted {
            LayerRef::Depth(depth) => (*depth < self.members.len()).then_some(*depth),
            LayerRef::File(path) => self.find_file(path, options)?,
        };
        found.ok_or_else(|| {
            let (top, wanted) = (self.top().path.clone(), wanted.to_string());
            Error::Refused(Refusal::NotInChain { top, wanted })
        })
    }

    fn find_file(&self, path: &Path, options: &OpenOptions) -> Result<Option<usize>> {
        if let Some(depth) = self.members.iter().position(|member| member.path == path) {
            return Ok(Some(depth));
        }
        let host = block_io::OpenOptions::new().locking(block_io::Locking::Off);
        let refuse = |source| Error::Storage { layer: path.to_owned(), source };
        let Ok(storage) = options.host().open(path, &host) else {
            // A name as it stands in a header means a file beside that header.
            return Ok(self.find_name(path));
        };
        let id = storage.identity().map_err(refuse)?;
        let found = self.members.iter().position(|member| id.is_some() && member.id == id);
        Ok(found.or_else(|| self.find_name(path)))
    }

    fn find_name(&self, path: &Path) -> Option<usize> {
        let names = |member: &Member| member.backing.as_deref().map(Path::new) == Some(path);
        self.members.iter().position(names).map(|above| above + 1)
    }

    /// The layer below the one at `depth`.
    pub(crate) fn below(&self, depth: usize) -> Result<usize> {
        if depth + 1 < self.members.len() {
            return Ok(depth + 1);
        }
        let layer = self.members[depth].path.clone();
        Err(Error::Refused(Refusal::NoBackingFile { layer }))
    }

    /// The name by which the header of the layer at `above` can name the one at `below`: as the
    /// layer that names it now does, if both lie in one folder.
    pub(crate) fn name_for(&self, above: usize, below: usize) -> Result<String> {
        let (above_path, below_path) = (&self.members[above].path, &self.members[below].path);
        let namer = &self.members[below.saturating_sub(1)];
        if let Some(name) = &namer.backing
            && namer.path.parent() == above_path.parent()
        {
            return Ok(name.clone());
        }
        name::of_file(above_path, below_path)
    }
}
