//! What opening a chain is allowed to do because an image says so.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Layers in a chain, unless the caller says otherwise.
pub const DEPTH_MAX_DEFAULT: usize = 1024;

/// What opening a chain is allowed to do because an image says so. Strict unless loosened.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) probe: bool,
    pub(crate) depth_max: usize,
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) locking: bool,
    pub(crate) force_share: bool,
    pub(crate) refuse_writers: bool,
    pub(crate) data_files: bool,
    pub(crate) same_base: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy {
    /// No probing, any local backing file, no data file that only an image names, the default
    /// depth, locks as QEMU takes them.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            probe: false,
            depth_max: DEPTH_MAX_DEFAULT,
            directories: Vec::new(),
            locking: true,
            force_share: false,
            refuse_writers: false,
            data_files: false,
            same_base: false,
        }
    }

    /// Whether a layer whose format is not known may be guessed from its content. Dangerous for
    /// raw images that a guest writes to.
    #[must_use]
    pub const fn probe(mut self, probe: bool) -> Self {
        self.probe = probe;
        self
    }

    /// Most layers in a chain.
    #[must_use]
    pub const fn depth_max(mut self, layers: usize) -> Self {
        self.depth_max = layers;
        self
    }

    /// Whether the name of an external data file in a header is followed. Dangerous for images from
    /// strangers: whoever writes to such an image writes to whatever file it names.
    #[must_use]
    pub const fn data_files(mut self, follow: bool) -> Self {
        self.data_files = follow;
        self
    }

    /// Allows backing and data files below this folder; once called, nowhere else. Symbolic links are
    /// followed before the comparison.
    #[must_use]
    pub fn allow_directory(mut self, directory: PathBuf) -> Self {
        self.directories.push(directory);
        self
    }

    /// Whether files are locked so that a running QEMU and this program exclude each other.
    #[must_use]
    pub const fn locking(mut self, locking: bool) -> Self {
        self.locking = locking;
        self
    }

    /// Opens beside a writer, and always read-only: what is read may be in the middle of a change.
    #[must_use]
    pub const fn force_share(mut self, force_share: bool) -> Self {
        self.force_share = force_share;
        self
    }

    /// Keeps writers away from every layer, raw files too: QEMU lets others write a raw file that
    /// is only read, but a copy of the whole chain needs all of it to hold still, and must not be
    /// written into a layer it is read from. Without effect under
    /// [`force_share`](Policy::force_share), and on a raw top that is opened for writing.
    #[must_use]
    pub const fn refuse_writers(mut self, refuse_writers: bool) -> Self {
        self.refuse_writers = refuse_writers;
        self
    }

    /// Refuses a chain in which a backing file may not be the one that its overlay was made on, as far
    /// as the overlay has a record of it ([`BaseVerdict::is_harmless`](crate::BaseVerdict::is_harmless)
    /// says what passes). Otherwise [`Chain::base_findings`](crate::Chain::base_findings) tells.
    #[must_use]
    pub const fn require_same_base(mut self, require: bool) -> Self {
        self.same_base = require;
        self
    }

    /// Whether the name of a data file may be followed to this path.
    pub(crate) fn allows_data_file(&self, path: &Path) -> bool {
        self.data_files && self.allows(path)
    }

    /// Whether a backing file may be opened at this path. One that is missing in an allowed folder
    /// is allowed: opening it tells what is missing.
    pub(crate) fn allows(&self, path: &Path) -> bool {
        if self.directories.is_empty() {
            return true;
        }
        let place = match path.canonicalize() {
            Ok(path) => Some(path),
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
                path.parent().and_then(|folder| folder.canonicalize().ok())
            }
            Err(_) => None,
        };
        let allowed = self.directories.iter().filter_map(|folder| folder.canonicalize().ok());
        place.is_some_and(|place| allowed.into_iter().any(|folder| place.starts_with(folder)))
    }
}
