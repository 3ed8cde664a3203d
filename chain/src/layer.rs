//! One layer of a chain: a file with its format, opened.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use block_io::Storage;
use cow_engine::{Image, Run, RunKind};
use qcow2_format::{Header, HostOffset};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::raw::RawDisk;
use crate::status::Status;

/// One layer of a chain.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    disk: Disk,
    /// Whether data clusters may well lie in holes; asked once, when first needed.
    seems_preallocated: OnceLock<bool>,
}

/// Bytes, or clusters, about which a layer is asked at once. What lies below may cut the answer
/// to a small part, and nobody wants to walk over the same tables again for every such part.
const ANSWER_BYTES_MIN: u64 = 2 << 20;
const ANSWER_CLUSTERS: u64 = 4096;

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
    Below {
        /// How many.
        len: u64,
        /// Where host space is reserved for them all the same.
        reserved: Option<u64>,
    },
}

impl Layer {
    pub(crate) fn new(path: PathBuf, disk: Disk) -> Self {
        Self { path, disk, seems_preallocated: OnceLock::new() }
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

    /// The header, if the layer is qcow2. That of a lower layer is not for writing back: it may lack what
    /// cluster 0 holds behind all that the format knows of.
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

    /// The storage that holds the guest data of the layer: an external data file, if it has one.
    pub(crate) fn data_storage(&self) -> &Arc<dyn Storage> {
        match &self.disk {
            Disk::Raw(raw) => raw.storage(),
            Disk::Qcow2(image) => image.data_storage(),
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

    /// The disk, to be changed; what was known about its holes may be wrong afterwards.
    pub(crate) fn disk_mut(&mut self) -> &mut Disk {
        self.seems_preallocated = OnceLock::new();
        &mut self.disk
    }

    /// What this layer says about up to `len` bytes at `offset`, which lie inside its disk.
    pub(crate) fn answer(&self, offset: u64, len: u64) -> Result<Answer> {
        match &self.disk {
            Disk::Raw(raw) => {
                let (hole, len) = raw.hole_at(offset, len).map_err(|e| self.storage_error(e))?;
                Ok(Answer::Here(Status::raw(offset, len, hole)))
            }
            Disk::Qcow2(image) => {
                // Cut at multiples, so that clusters of other layers are not cut in pieces.
                let unit =
                    (image.geometry().cluster_bytes() * ANSWER_CLUSTERS).max(ANSWER_BYTES_MIN);
                let len = len.min(unit - offset % unit);
                let run = image.first_run(offset, len).map_err(|e| self.image_error(e))?;
                Ok(match run {
                    None => Answer::Below { len: 0, reserved: None },
                    Some(Run { len, kind: RunKind::Below { reserved }, .. }) => {
                        Answer::Below { len, reserved: reserved.map(HostOffset::get) }
                    }
                    Some(run) => Answer::Here(self.status_of(image, &run)?),
                })
            }
        }
    }

    /// What a run of the layer's image says. Where data clusters may well lie in holes of the file, asks
    /// the host, as the reference implementation does.
    pub(crate) fn status_of(&self, image: &Image, run: &Run) -> Result<Status> {
        let status = Status::of(run);
        let Some(host) = status.host_offset.filter(|_| status.data) else { return Ok(status) };
        // Only a hint: without the answer the status is right, if less precise.
        if !self.seems_preallocated.get_or_init(|| image.seems_preallocated().unwrap_or(false)) {
            return Ok(status);
        }
        let extent = image.data_storage().extent_at(host).map_err(|e| self.storage_error(e))?;
        Ok(match extent {
            // The last cluster may be cut off in its zeros; what begins behind the end is lost,
            // and reading it will say so.
            None => {
                let rest =
                    image.geometry().cluster_bytes() - image.geometry().offset_in_cluster(host);
                let begins = image.geometry().cluster_start(host);
                match image.data_storage().extent_at(begins).map_err(|e| self.storage_error(e))? {
                    Some(_) => status.at_most(rest).in_hole(),
                    None => status,
                }
            }
            Some(extent) if extent.is_hole() => status.at_most(extent.len).in_hole(),
            Some(extent) => status.at_most(extent.len),
        })
    }

    pub(crate) fn storage_error(&self, source: block_io::Error) -> Error {
        Error::Storage { layer: self.path.clone(), source }
    }

    pub(crate) fn image_error(&self, source: cow_engine::Error) -> Error {
        Error::Image { layer: self.path.clone(), source }
    }
}
