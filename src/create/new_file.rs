//! A file that is about to become an image: opened and locked, not yet cut, and gone again if
//! nothing comes of it.

use std::path::{Path, PathBuf};

use block_io::{Create, FileStorage, Lock, OpenOptions, Result, Storage};

use super::HostHints;

/// An open file to be filled from its beginning.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    storage: FileStorage,
    /// Whether it was not there before.
    is_new: bool,
}

impl NewFile {
    /// Opens or creates the file and locks it for whoever makes an image. Its bytes stay: another
    /// file may turn out to be impossible.
    pub(super) fn open(path: &Path, hints: HostHints) -> Result<Self> {
        let open = |create| OpenOptions::new().write(true).create(create).open(path);
        let (storage, is_new) = match open(Create::New) {
            Ok(storage) => (storage, true),
            Err(_) => (open(Create::IfMissing)?, false),
        };
        let file = Self { path: path.to_owned(), storage, is_new };
        if let Err(error) = file.storage.lock(Lock::creating()) {
            file.remove_if_new();
            return Err(error);
        }
        if hints.nocow {
            file.storage.disable_cow();
        }
        if hints.extent_size > 0 {
            file.storage.set_extent_size_hint(hints.extent_size);
        }
        Ok(file)
    }

    pub(super) fn storage(&self) -> &FileStorage {
        &self.storage
    }

    /// Leaves no trace of a file that was not there before.
    pub(super) fn remove_if_new(self) {
        if self.is_new {
            self.remove();
        }
    }

    /// Removes the file, whose old bytes are gone and whose new ones are no image. Devices stay.
    pub(super) fn remove(self) {
        let is_file = std::fs::symlink_metadata(&self.path).is_ok_and(|data| data.is_file());
        if is_file {
            // The failure that led here is the one to report.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
