//! Why an operation on a chain was not begun.

use core::fmt;
use std::path::PathBuf;

/// Why an operation on a chain was not begun. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The layer rests on nothing.
    NoBackingFile {
        /// The layer.
        layer: PathBuf,
    },
    /// The layer has to be qcow2.
    Raw {
        /// The layer.
        layer: PathBuf,
    },
    /// No layer of the chain is this file.
    NotInChain {
        /// The top of the chain.
        top: PathBuf,
        /// What was looked for.
        wanted: String,
    },
    /// A layer that must lie below another one does not.
    NotBelow {
        /// The layer that must lie lower.
        lower: PathBuf,
        /// The layer that it must lie below.
        upper: PathBuf,
    },
    /// The operation changes a file that an overlay outside the chain rests on.
    SharedBase {
        /// The layer that would change.
        layer: PathBuf,
        /// The overlay that is no part of the chain.
        overlay: PathBuf,
    },
    /// The operation would change what internal snapshots of the layer show.
    InternalSnapshots {
        /// The layer.
        layer: PathBuf,
        /// How many it has.
        count: u32,
    },
    /// The new backing file rests on the layer itself.
    OwnBacking {
        /// The layer.
        layer: PathBuf,
    },
    /// The layer keeps its guest data in a file of its own, where nothing is compressed.
    NotCompressible {
        /// The layer.
        layer: PathBuf,
    },
    /// A name that no header can hold, because it is not UTF-8.
    Name {
        /// The file.
        path: PathBuf,
    },
    /// A layer is not what it was when the operation was planned.
    Changed {
        /// The layer.
        layer: PathBuf,
    },
    /// The file exists, and nobody's file is overwritten.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The guest's first bytes would make a file look like an image whose format nobody has recorded: the
    /// next guess would come out differently.
    Disguise {
        /// The layer.
        layer: PathBuf,
    },
    /// The same file is named twice.
    Twice {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackingFile { layer } => {
                write!(f, "'{}': image does not have a backing file", layer.display())
            }
            Self::Raw { layer } => {
                write!(f, "'{}': a raw image cannot rest on another one", layer.display())
            }
            Self::NotInChain { top, wanted } => {
                write!(f, "'{wanted}' is no layer of the chain of '{}'", top.display())
            }
            Self::NotBelow { lower, upper } => {
                write!(f, "'{}' does not lie below '{}'", lower.display(), upper.display())
            }
            Self::SharedBase { layer, overlay } => write!(
                f,
                "'{}' would change, and overlay '{}' outside the chain rests on it",
                layer.display(),
                overlay.display()
            ),
            Self::InternalSnapshots { layer, count } => write!(
                f,
                "'{}' has {count} internal snapshots, which would show other bytes afterwards",
                layer.display()
            ),
            Self::OwnBacking { layer } => {
                write!(f, "'{}' would become its own backing file", layer.display())
            }
            Self::NotCompressible { layer } => write!(
                f,
                "'{}': guest data in a file of its own cannot be compressed",
                layer.display()
            ),
            Self::Name { path } => {
                write!(f, "'{}': the name is not UTF-8, so no header can hold it", path.display())
            }
            Self::Changed { layer } => {
                write!(f, "'{}': changed while the operation was prepared", layer.display())
            }
            Self::Exists { path } => write!(f, "'{}' exists already", path.display()),
            Self::Disguise { layer } => write!(
                f,
                "'{}' was guessed to be raw and would look like qcow2 afterwards; record its format first",
                layer.display()
            ),
            Self::Twice { path } => write!(f, "'{}' is named twice", path.display()),
        }
    }
}

impl core::error::Error for Refusal {}
