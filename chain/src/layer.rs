//! One layer of a chain: a file with its format, opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::Storage;
use cow_engine::{Image, RunKind};
use qcow2_format::Header;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::raw::RawDisk;
use crate::status::Status;

/// One layer of a chain.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    disk: Disk,
}

#[derive(Debug)]
pub(crate) enum Disk {
    Raw(RawDisk),
    Qcow2(Box<Image>),
}

/// What a layer says about the bytes at an offset, for as long as the answer is the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The layer answers.
    Here(Status),
    /// The layer does not own the next `len` bytes.
    Below { len: u64 },
}

impl Layer {
    pub(crate) fn new(path: PathBuf, disk: Disk) -> Self {
        Self { path, disk }
    }

    /// The file, as it was named or as the name above resolved to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        match self.disk {
            Disk::Raw(_) => Format::Raw,
            Disk::Qcow2(_) => Format::Qcow2,
        }
    }

    /// Size of the layer's own virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        match &self.disk {
            Disk::Raw(raw) => raw.virtual_size(),
            Disk::Qcow2(image) => image.virtual_size(),
        }
    }

    /// The header, if the layer is qcow2.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.image().map(Image::header)
    }

    /// The engine's image, if the layer is qcow2.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        match &self.disk {
            Disk::Raw(_) => None,
            Disk::Qcow2(image) => Some(image),
        }
    }

    /// The storage that holds the layer.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        match &self.disk {
            Disk::Raw(raw) => raw.storage(),
            Disk::Qcow2(image) => image.storage(),
        }
    }

    /// Name of the backing file as the header says it; what is not UTF-8 is replaced.
    #[must_use]
    pub fn backing_name(&self) -> Option<String> {
        let name = self.header()?.backing_name()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }

    /// Format of the backing file as the header says it; what is not UTF-8 is replaced.
    #[must_use]
    pub fn backing_format(&self) -> Option<String> {
        let format = self.header()?.backing_format()?;
        Some(String::from_utf8_lossy(format).into_owned())
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What this layer says about up to `len` bytes at `offset`, which lie inside its disk.
    pub(crate) fn answer(&self, offset: u64, len: u64) -> Result<Answer> {
        match &self.disk {
            Disk::Raw(raw) => {
                let (hole, len) = raw.hole_at(offset, len).map_err(|e| self.storage_error(e))?;
                Ok(Answer::Here(Status::raw(offset, len, hole)))
            }
            Disk::Qcow2(image) => {
                let run = image.first_run(offset, len).map_err(|e| self.image_error(e))?;
                Ok(match run {
                    None => Answer::Below { len: 0 },
                    Some(run) if run.kind == RunKind::Below => Answer::Below { len: run.len },
                    Some(run) => Answer::Here(Status::of(&run)),
                })
            }
        }
    }

    pub(crate) fn storage_error(&self, source: block_io::Error) -> Error {
        Error::Storage { layer: self.path.clone(), source }
    }

    pub(crate) fn image_error(&self, source: cow_engine::Error) -> Error {
        Error::Image { layer: self.path.clone(), source }
    }
}
