//! Why a chain cannot be measured.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::info::InfoError;

/// Why a chain cannot be measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ViewError {
    /// What is allocated could not be learned.
    Chain(Arc<chain::Error>),
    /// The tables of a layer could not be walked.
    Layer {
        /// The layer's file.
        path: PathBuf,
        /// Why.
        source: Arc<cow_engine::Error>,
    },
    /// The file of a layer could not be looked at.
    Info {
        /// The layer's file.
        path: PathBuf,
        /// Why.
        source: InfoError,
    },
}

impl From<chain::Error> for ViewError {
    fn from(error: chain::Error) -> Self {
        Self::Chain(Arc::new(error))
    }
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(source) => source.fmt(f),
            Self::Layer { path, source } => write!(f, "'{}': {source}", path.display()),
            Self::Info { path, source } => write!(f, "'{}': {source}", path.display()),
        }
    }
}

impl std::error::Error for ViewError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Chain(source) => Some(source.as_ref()),
            Self::Layer { source, .. } => Some(source.as_ref()),
            Self::Info { source, .. } => Some(source),
        }
    }
}
