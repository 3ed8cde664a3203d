//! What can go wrong in a benchmark.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Failure {
    Usage,
    NoSuchCase,
    File {
        path: PathBuf,
        source: io::Error,
    },
    /// A contender refused.
    Contender {
        name: &'static str,
        what: String,
    },
    /// A contender read other bytes than were written, or left a damaged image.
    Wrong {
        name: &'static str,
        what: String,
    },
}

impl Failure {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }

    pub(crate) fn of(name: &'static str) -> impl Fn(&dyn fmt::Display) -> Self {
        move |error| Self::Contender { name, what: error.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str("usage: qimg-bench FOLDER JSON [CASE...]"),
            Self::NoSuchCase => f.write_str("no case has such a name"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Contender { name, what } => write!(f, "{name}: {what}"),
            Self::Wrong { name, what } => write!(f, "{name} is wrong: {what}"),
        }
    }
}
