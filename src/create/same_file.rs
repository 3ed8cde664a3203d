//! Whether two names lead to one file, be it one that does not exist yet.

use std::path::{Path, PathBuf};

use block_io::{FileId, Locking, OpenOptions, Storage};

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
