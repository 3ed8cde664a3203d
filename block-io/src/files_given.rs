//! `GivenFiles`: files that somebody else has opened, under the names by which images refer to them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Files, OpenOptions, Result, Storage};

/// Files that the caller has opened, and no others: for processes that may not open files themselves.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use block_io::{Files, GivenFiles, MemoryStorage, OpenOptions};
///
/// let files = GivenFiles::new().with("base.raw", Arc::new(MemoryStorage::new()));
/// assert!(files.open(Path::new("base.raw"), &OpenOptions::new()).is_ok());
/// assert!(files.open(Path::new("/etc/passwd"), &OpenOptions::new()).is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct GivenFiles {
    files: BTreeMap<PathBuf, Arc<dyn Storage>>,
}

impl GivenFiles {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file under a path, which is compared as it is written.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, storage: Arc<dyn Storage>) -> Self {
        self.files.insert(path.into(), storage);
        self
    }
}

fn refused<T>(path: &Path, kind: io::ErrorKind) -> Result<T> {
    Err(Error::open(path, kind.into()))
}

impl Files for GivenFiles {
    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Arc<dyn Storage>> {
        match self.files.get(path) {
            None => refused(path, io::ErrorKind::NotFound),
            Some(_) if options.wants_new() => refused(path, io::ErrorKind::AlreadyExists),
            Some(file) if options.wants_write() && file.is_read_only() => {
                refused(path, io::ErrorKind::PermissionDenied)
            }
            Some(file) => Ok(Arc::clone(file)),
        }
    }

    fn rename_new(&self, from: &Path, _to: &Path) -> Result<()> {
        refused(from, io::ErrorKind::Unsupported)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        refused(path, io::ErrorKind::Unsupported)
    }

    fn sync_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn neighbours(&self, _path: &Path) -> Result<Vec<PathBuf>> {
        Ok(self.files.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStorage;

    #[test]
    fn nothing_but_what_was_given_can_be_had() {
        let files = GivenFiles::new().with("a", Arc::new(MemoryStorage::new()));
        let open = |path: &str, options: &OpenOptions| {
            files.open(Path::new(path), options).map(drop).map_err(|error| error.kind())
        };
        let new = OpenOptions::new().write(true).create(crate::Create::New);
        assert_eq!(open("a", &OpenOptions::new().write(true)), Ok(()));
        assert_eq!(open("./a", &OpenOptions::new()), Err(io::ErrorKind::NotFound));
        assert_eq!(open("a", &new), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(open("b", &new), Err(io::ErrorKind::NotFound));
        assert!(files.rename_new(Path::new("a"), Path::new("b")).is_err());
        assert!(files.remove(Path::new("a")).is_err());
        assert_eq!(files.neighbours(Path::new("a")).unwrap(), [PathBuf::from("a")]);
    }
}
