//! Twins: the same requests by the library on an image and by the real tool on its copy.

use std::path::{Path, PathBuf};

use super::extents::{Answer, Run, difference_of};
use super::recipe::Recipe;
use super::turn::Mode;

/// How both twins open their image.
pub(crate) const TWINS: Mode = Mode {
    cache: "unsafe",
    ignores_discard: false,
    l2_cache_bytes: 32 << 20,
    direct: false,
    ignores_syncs: true,
};

/// Files that stand aside while somebody works on their copies, which have their names.
#[derive(Debug)]
pub(crate) struct CopiedFiles {
    /// Names of the copies, and where the files are meanwhile.
    files: Vec<(PathBuf, PathBuf)>,
}

impl CopiedFiles {
    pub(crate) fn new(names: &[&Path]) -> Self {
        let files = names.iter().map(|name| (name.to_path_buf(), aside(name)));
        let files: Vec<_> = files.collect();
        for (name, aside) in &files {
            std::fs::rename(name, aside).unwrap();
            std::fs::copy(aside, name).unwrap();
        }
        Self { files }
    }

    /// The copies are given up.
    pub(crate) fn put_back(self) {
        for (name, aside) in &self.files {
            std::fs::rename(aside, name).unwrap();
        }
    }
}

/// Every guest byte is kept in the same way: there or not, as zeros, data or compressed, with
/// host space or without. Where the two are known to differ, ours keeps less.
pub(crate) fn assert_alike(recipe: &Recipe, size: u64, ours: &[Run], theirs: &[Run]) {
    let last_cluster = size / recipe.cluster_bytes() * recipe.cluster_bytes();
    let same = |at: u64, ours: Answer, theirs: Answer| {
        // The end of the disk, if it is not the end of a subcluster: the real tool asks for it
        // in two parts, of which none is the whole cluster.
        let freed_end = recipe.extended_l2 && at >= last_cluster && ours.is_gone(theirs);
        // Zeros over zeros are nothing; version 2 of the real tool writes them.
        let kept_nothing = recipe.version_2 && ours.zero && !ours.present;
        ours.shape() == theirs.shape() || freed_end || kept_nothing
    };
    if let Some((at, ours, theirs)) = difference_of(ours, theirs, same) {
        panic!("guest offset {at} ({at:#x}) is kept as\n ours   {ours:?}\n theirs {theirs:?}");
    }
}

fn aside(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".aside");
    name.into()
}
