//! Files by content: which of them have changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// The content of every file in a folder, as a number each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files(BTreeMap<PathBuf, u64>);

impl Files {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let mut hasher = DefaultHasher::new();
            std::fs::read(&path).unwrap().hash(&mut hasher);
            (path, hasher.finish())
        };
        Self(std::fs::read_dir(folder).unwrap().map(entry).collect())
    }

    /// Nothing but these files has changed or appeared, and none is gone.
    #[track_caller]
    pub(crate) fn assert_only_changed(&self, now: &Self, may_change: &[PathBuf], deed: &str) {
        let may = |path: &PathBuf| may_change.contains(path);
        for (path, before) in &self.0 {
            let after = now.0.get(path);
            assert!(after.is_some(), "{deed}: {} is gone", path.display());
            assert!(after == Some(before) || may(path), "{deed}: {} has changed", path.display());
        }
        for path in now.0.keys() {
            let is_known = self.0.contains_key(path) || may(path);
            assert!(is_known, "{deed}: {} has appeared", path.display());
        }
    }
}
