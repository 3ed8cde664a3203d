//! Whether two names lead to one file, be it one that does not exist yet, or to a file of a chain.

use std::path::{Path, PathBuf};

use block_io::{FileId, Locking, OpenOptions, Storage};
use chain::{Chain, Layer, Policy};
use cow_engine::BackingReference;

pub(super) fn is_same_file(a: &Path, b: &Path) -> bool {
    if a == b {
        return true;
    }
    match (identity(a), identity(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => matches!((place(a), place(b)), (Some(a), Some(b)) if a == b),
        _ => false,
    }
}

/// Whether an existing file at `path` is one of those that the backing file of `overlay` is read
/// from, itself included. What cannot be opened is no reason to refuse anything.
pub(super) fn is_below(path: &Path, overlay: &Path, backing: &BackingReference) -> bool {
    let (Some(id), Some(format)) = (identity(path), &backing.format) else { return false };
    let (Ok(format), Ok(backing)) = (format.parse(), chain::resolve_name(overlay, &backing.name))
    else {
        return false;
    };
    // Somebody may be using the chain: nothing but names is wanted from it.
    let policy = Policy::new().data_files(true).force_share(true);
    let options = chain::OpenOptions::new().format(format).read_only(true).policy(policy);
    let is_it = |layer: &Layer| layer.storage().identity().ok().flatten() == Some(id);
    Chain::open(&backing, &options).is_ok_and(|chain| chain.layers().any(is_it))
}

/// What tells an existing file from all others, whatever links lead to it.
fn identity(path: &Path) -> Option<FileId> {
    let file = OpenOptions::new().locking(Locking::Off).open(path).ok()?;
    file.identity().ok().flatten()
}

/// Where a file that does not exist would be made.
fn place(path: &Path) -> Option<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}
