//! What an image is: sizes, format, options, names of other files; nothing else is opened.
//!
//! Only the header and the small tables it points at are read, so this is safe for images that
//! nobody trusts, works on images of which the engine understands less than it must to serve
//! them, and needs no keys.

mod error;
mod qcow2;

use std::path::{Path, PathBuf};

use block_io::{Lock, Locking, OpenOptions, Storage};
use chain::Format;

pub use error::InfoError;
pub use qcow2::{BitmapInfo, EncryptionInfo, Qcow2Info, SnapshotInfo};

/// How to look at an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoOptions {
    /// Take no locks: the image may change while it is read.
    pub force_share: bool,
}

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Name of the file, as it was passed.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// Length of the file in bytes.
    pub file_length: u64,
    /// Host space the file takes, in bytes.
    pub disk_size: u64,
    /// What qcow2 adds.
    pub qcow2: Option<Qcow2Info>,
}

/// Sectors are the granularity of every virtual disk.
const SECTOR_BYTES: u64 = 512;

/// Looks at one image file.
///
/// # Errors
/// The file cannot be opened or read, or is no image of this format.
pub fn info(path: &Path, format: Format, options: InfoOptions) -> Result<Info, InfoError> {
    let locking = if options.force_share { Locking::Off } else { Locking::Auto };
    let storage = OpenOptions::new().locking(locking).open(path)?;
    // A raw file has no metadata that a writer could be changing.
    storage.lock(if format == Format::Raw { Lock::none() } else { Lock::info() })?;
    of_storage(path, format, &storage)
}

/// Looks at the top layer of an open chain.
///
/// # Errors
/// As for [`info`].
pub fn of_top(chain: &chain::Chain) -> Result<Info, InfoError> {
    of_layer(chain.top())
}

/// Looks at one layer of an open chain.
///
/// # Errors
/// As for [`info`].
pub fn of_layer(layer: &chain::Layer) -> Result<Info, InfoError> {
    of_storage(layer.path(), layer.format(), layer.storage().as_ref())
}

pub(crate) fn of_storage(
    path: &Path,
    format: Format,
    storage: &dyn Storage,
) -> Result<Info, InfoError> {
    let file_length = storage.len()?;
    let qcow2 = match format {
        Format::Raw => None,
        Format::Qcow2 => Some(qcow2::read(storage, file_length)?),
    };
    let virtual_size = match &qcow2 {
        Some(qcow2) => qcow2.virtual_size,
        None => file_length.next_multiple_of(SECTOR_BYTES),
    };
    Ok(Info {
        path: path.to_owned(),
        format,
        virtual_size,
        file_length,
        disk_size: storage.allocated_bytes()?,
        qcow2,
    })
}
