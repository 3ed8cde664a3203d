//! `Files`: where files come from, by path. Chains and operations on them open, make and name files
//! only through it, so that a caller can hand in files it has opened itself, and a test can cut the
//! power between any two steps.

use core::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{OpenOptions, Result, Storage};

/// Where files come from, by path.
///
/// Names are as durable as the host makes them: a name that was made, moved or removed is only
/// promised to survive a power cut after [`sync_folder`](Files::sync_folder).
pub trait Files: Debug + Send + Sync {
    /// Opens or creates the file at `path`.
    ///
    /// # Errors
    /// [`Error::Open`](crate::Error::Open) when there is no such file, when there is one that must not
    /// exist, or the host refuses.
    fn open(&self, path: &Path, options: &OpenOptions) -> Result<Arc<dyn Storage>>;

    /// Gives the file at `from` the name `to`, in one step, unless that name is taken.
    ///
    /// # Errors
    /// [`Error::Open`](crate::Error::Open) with the path that stands in the way: `to` exists, `from`
    /// does not, or the host refuses. Nothing has changed then.
    fn rename_new(&self, from: &Path, to: &Path) -> Result<()>;

    /// Takes the name away. The caller has made the file; nobody else's is ever removed.
    ///
    /// # Errors
    /// [`Error::Open`](crate::Error::Open) when there is no such file or the host refuses.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Makes the names in the folder of `path` durable.
    ///
    /// # Errors
    /// The host could not promise durability.
    fn sync_folder(&self, path: &Path) -> Result<()>;

    /// The paths of the files in the folder of `path`, `path` itself included, in any order: regular
    /// files and block devices, or links to such. An object that has no neighbours has none.
    ///
    /// # Errors
    /// The host refuses to tell.
    fn neighbours(&self, path: &Path) -> Result<Vec<PathBuf>>;
}
