//! Names that mean more than a local file: who opens them, if anybody.
//!
//! The chain itself follows local names only. A program that can read from a server, or understands
//! `json:` trees, registers a handler; without one such names are refused.

use core::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_io::Storage;

use crate::format::Format;

/// Why a handler could not open what a name means.
pub type HandlerError = Arc<dyn core::error::Error + Send + Sync>;

/// What a name with a protocol means.
#[derive(Clone, Debug)]
pub struct Handled {
    /// What to call it in messages; names in its own header are resolved beside it.
    pub path: PathBuf,
    /// Its bytes.
    pub storage: Arc<dyn Storage>,
    /// Its format, where the name says one; else that of the header above counts.
    pub format: Option<Format>,
}

/// Opens backing files whose names have a protocol (`json:`, `nbd:`, ...).
pub trait NameHandler: Debug + Send + Sync {
    /// Opens what `name`, found in the header of `overlay`, means; `None` when it is none of this
    /// handler's names, which are then refused.
    ///
    /// # Errors
    /// The name is one of its own and cannot be opened.
    fn open(&self, overlay: &Path, name: &str) -> Option<Result<Handled, HandlerError>>;
}
