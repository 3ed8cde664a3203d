//! `Folder`: a temporary folder that goes away with its test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary folder beside the build, where direct I/O and holes work as on a real disk;
/// `/tmp` is often memory.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A new, empty folder.
    ///
    /// # Panics
    /// The folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let program = std::env::current_exe().unwrap();
        let parent = program.parent().unwrap();
        let folder = tempfile::Builder::new().prefix("testkit-").tempdir_in(parent);
        let folder = folder
            .unwrap_or_else(|error| panic!("no temporary folder in {}: {error}", parent.display()));
        Self { folder }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The path of `name` in the folder.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// Makes a file and returns its path.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// The bytes of a file.
    ///
    /// # Panics
    /// The file cannot be read.
    #[must_use]
    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_away_with_its_files() {
        let folder = Folder::new();
        let path = folder.write("file", b"bytes");
        assert_eq!(folder.read("file"), b"bytes");
        drop(folder);
        assert!(!path.exists());
    }
}
