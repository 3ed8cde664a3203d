//! Restoring: a heap of files, in any order and under any names, becomes a chain again.
//!
//! Which file rests on which is told by what overlays remember of their backing files, and by the
//! names in their headers where they remember nothing. A chain is only returned if it is complete: one
//! top, each file below exactly one other, a base that rests on nothing, and no file left over.

mod heap;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::{Files, GivenFiles, HostFiles, Storage};
use chain::{BaseFinding, BaseVerdict, Chain, Format, OpenOptions};

use crate::verify::{Content, ContentHash, compare_content};
use heap::{Heap, Piece};

/// Why a heap of files is no chain.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// A file could not be read, or its header makes no sense.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No file was given.
    Nothing,
    /// The same file was given twice.
    Twice {
        /// The file.
        path: PathBuf,
    },
    /// A backing file is not among the files.
    Missing {
        /// The overlay.
        overlay: PathBuf,
        /// Its backing file, as its header names it.
        name: String,
    },
    /// Several of the files may be the backing file of an overlay.
    Ambiguous {
        /// The overlay.
        overlay: PathBuf,
        /// The files that may be it.
        candidates: Vec<PathBuf>,
    },
    /// Several files rest on one.
    Fork {
        /// The file.
        base: PathBuf,
        /// Those that rest on it.
        overlays: Vec<PathBuf>,
    },
    /// The files rest on each other in a circle.
    Circle {
        /// One of them.
        path: PathBuf,
    },
    /// Files that belong to no chain with the others.
    LeftOver {
        /// The files.
        paths: Vec<PathBuf>,
    },
    /// A backing file is not the one that its overlay was made on.
    WrongBase {
        /// What was found, in words.
        finding: String,
    },
    /// The chain, complete as it is, cannot be opened.
    Open(chain::Error),
}

/// How it is made sure that backing files are those that overlays were made on.
#[derive(Clone, Copy, Default)]
pub struct Bases<'h> {
    /// What computes the hashes that overlays record; without it they are not compared.
    pub content: Option<&'h ContentHash<'h>>,
}

impl fmt::Debug for Bases<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bases").field("content", &self.content.is_some()).finish()
    }
}

/// Orders the files, top first.
///
/// # Errors
/// They are no complete chain.
pub fn order(paths: &[PathBuf]) -> Result<Vec<PathBuf>, RestoreError> {
    let ordered = Heap::read(paths)?.ordered()?;
    Ok(ordered.into_iter().map(|piece| piece.path).collect())
}

/// Orders the files and opens them as the chain they are, whatever their names. Backing files must be
/// those that their overlays were made on; without [`Bases`] any will do.
///
/// # Errors
/// They are no complete chain, or it cannot be opened.
pub fn open(
    paths: &[PathBuf],
    options: &OpenOptions,
    bases: Option<Bases<'_>>,
) -> Result<Chain, RestoreError> {
    let ordered = Heap::read(paths)?.ordered()?;
    let (top, files) = under_names_of_headers(&ordered)?;
    let format = ordered.first().map_or(Format::Raw, |piece| piece.format);
    let options = options.clone().format(format).read_only(true).files(Arc::new(files));
    let chain = Chain::open(&top, &options).map_err(RestoreError::Open)?;
    let Some(bases) = bases else { return Ok(chain) };
    let is_wrong = |finding: &&BaseFinding| {
        // Files that were copied or unpacked have other times.
        finding.verdict.is_change() && finding.verdict != BaseVerdict::Touched
    };
    if let Some(finding) = chain.base_findings().find(is_wrong) {
        return Err(RestoreError::WrongBase { finding: finding.to_string() });
    }
    if let Some(content) = bases.content {
        compare_contents(&chain, &ordered, &options, content)?;
    }
    Ok(chain)
}

/// Reads what backing files show of which a hash was recorded.
fn compare_contents(
    chain: &Chain,
    ordered: &[Piece],
    options: &OpenOptions,
    content: &ContentHash<'_>,
) -> Result<(), RestoreError> {
    let layers = chain.layers().zip(chain.layers().skip(1));
    for ((layer, below), pair) in layers.zip(ordered.windows(2)) {
        let finding = match compare_content(layer, Some(below), options, Some(content)) {
            Content::Different => "shows other bytes than when the overlay was made".to_owned(),
            Content::Failed(text) => text,
            Content::NotCompared | Content::NotRecorded | Content::Same => continue,
        };
        let (layer, below) = (pair[0].path.display(), pair[1].path.display());
        let finding = format!("'{layer}': its backing file '{below}' {finding}");
        return Err(RestoreError::WrongBase { finding });
    }
    Ok(())
}

/// The files under the names by which the header above means them.
fn under_names_of_headers(ordered: &[Piece]) -> Result<(PathBuf, GivenFiles), RestoreError> {
    let names = names_of_headers(ordered)?;
    let mut files = GivenFiles::new();
    for (piece, name) in ordered.iter().zip(&names) {
        let file: Arc<dyn Storage> = HostFiles
            .open(&piece.path, &block_io::OpenOptions::new())
            .map_err(|error| piece.unreadable(error.to_string()))?;
        files = files.with(name.clone(), file);
    }
    Ok((names.into_iter().next().unwrap_or_default(), files))
}

/// What to call each file, top first, so that the name in each header leads to the next one and to no
/// other: the name that a file has today may be the one that another was known by.
fn names_of_headers(ordered: &[Piece]) -> Result<Vec<PathBuf>, RestoreError> {
    let mut names: Vec<PathBuf> = ordered.iter().take(1).map(|top| top.path.clone()).collect();
    let mut taken = BTreeSet::new();
    for piece in ordered {
        let (Some(above), Some(backing)) = (names.last(), &piece.backing) else { break };
        let name = chain::resolve_name(above, backing)
            .map_err(|error| piece.unreadable(format!("{error:#}")))?;
        if !taken.insert(name.clone()) {
            let reason = format!("its backing file '{backing}' has the name of another layer");
            return Err(piece.unreadable(reason));
        }
        names.push(name);
    }
    // Nobody means the top by its name.
    if let Some(top) = names.first_mut() {
        while taken.contains(top) {
            let mut longer = top.clone().into_os_string();
            longer.push(".top");
            *top = longer.into();
        }
    }
    Ok(names)
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) => Some(error),
            _ => None,
        }
    }
}

/// Paths in words.
fn list(paths: &[PathBuf]) -> String {
    let quoted: Vec<_> = paths.iter().map(|path| format!("'{}'", path.display())).collect();
    quoted.join(", ")
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => write!(f, "'{}': {reason}", path.display()),
            Self::Nothing => f.write_str("no files to restore from"),
            Self::Twice { path } => write!(f, "'{}' was given twice", path.display()),
            Self::Missing { overlay, name } => write!(
                f,
                "the chain is incomplete: '{}' rests on '{name}', which is not among the files",
                overlay.display()
            ),
            Self::Ambiguous { overlay, candidates } => {
                write!(f, "'{}' may rest on any of {}", overlay.display(), list(candidates))
            }
            Self::Fork { base, overlays } => {
                write!(f, "the chain forks: {} rest on '{}'", list(overlays), base.display())
            }
            Self::Circle { path } => {
                write!(f, "'{}' rests on itself by way of the others", path.display())
            }
            Self::LeftOver { paths } => {
                write!(f, "{} belong to no chain with the other files", list(paths))
            }
            Self::WrongBase { finding } => f.write_str(finding),
            Self::Open(error) => error.fmt(f),
        }
    }
}

/// Counts by name, for tables of who rests on whom.
type Children = BTreeMap<usize, Vec<usize>>;

/// The path without what stands before its last part.
fn last_part(name: &str) -> &Path {
    Path::new(name).file_name().map_or(Path::new(name), Path::new)
}
