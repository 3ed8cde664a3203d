//! External data files: whose name is followed, what it means, and how the file is opened.
//!
//! Unlike the name of a backing file, that of a data file is literal (no protocol, no `json:`) and
//! relative to the current folder. A file that an image names is read and written through it, so
//! following the name takes the policy's word; one that the caller names needs nobody's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::{Lock, Storage};
use qcow2_format::{Header, IncompatibleFeatures};

use crate::error::{Error, Result};
use crate::open::{Found, host_options};
use crate::options::OpenOptions;

/// What a layer may do with its data file, and who says where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The file that the caller names.
    pub(crate) given: Option<&'a Path>,
    pub(crate) writable: bool,
}

/// Opens and locks the data file of a layer, if it has one.
pub(crate) fn open(
    layer: &Found,
    wanted: Wanted<'_>,
    options: &OpenOptions,
) -> Result<Option<Arc<dyn Storage>>> {
    let Some(header) = &layer.header else { return Ok(None) };
    let needed = header.requires(IncompatibleFeatures::EXTERNAL_DATA_FILE);
    let path = match wanted.given {
        // If the image has no use for it, the engine says so.
        Some(path) => path.to_owned(),
        None if !needed => return Ok(None),
        None => match named(layer, header, options)? {
            Some(path) => path,
            // The engine says that it is missing.
            None => return Ok(None),
        },
    };
    let refuse =
        |source| Error::DataFile { path: path.clone(), named_by: layer.path.clone(), source };
    let host = host_options(options, wanted.writable);
    let storage = options.host().open(&path, &host).map_err(refuse)?;
    let lock = match wanted.writable {
        _ if options.policy.force_share => Lock::shared_reader(),
        true => Lock::data_file_writer(),
        false if options.policy.refuse_writers => Lock::still_reader(),
        false => Lock::data_file_reader(),
    };
    storage.lock(lock).map_err(refuse)?;
    Ok(Some(storage))
}

/// The path that the header's name means, if the policy lets it be followed.
fn named(layer: &Found, header: &Header, options: &OpenOptions) -> Result<Option<PathBuf>> {
    let Some(name) = header.data_file_name().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = core::str::from_utf8(name).map_err(|_| Error::Name { layer: layer.path.clone() })?;
    let path = PathBuf::from(name);
    if !options.policy.allows_data_file(&path) {
        return Err(Error::ForbiddenDataFile { layer: layer.path.clone(), path });
    }
    Ok(Some(path))
}
