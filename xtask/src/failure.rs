//! Why a task failed: one line that says what, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of a task or of a step in it.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The reason a task stopped. Its text is the last line the user reads.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// A program could not be started at all.
    Start { program: String, source: io::Error },
    /// A program ran and said no.
    Command { line: String, code: Option<i32> },
    /// A rule of the house was broken; the findings were printed above.
    Findings { task: &'static str, count: usize, hint: &'static str },
    /// Something the machine must provide is absent.
    Missing { what: String, hint: String },
    /// A file could not be read or written.
    File { path: PathBuf, source: io::Error },
    /// The output of a program had another shape than expected.
    Unexpected { what: &'static str, found: String },
    /// No task has this name.
    UnknownTask { name: String },
    /// A task was given an argument it does not know.
    UnknownArgument { task: &'static str, argument: String },
}

impl Failure {
    /// Names the file in an I/O error.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { program, source } => write!(f, "cannot start `{program}`: {source}"),
            Self::Command { line, code: Some(code) } => {
                write!(f, "`{line}` ended with exit code {code}; its output is above")
            }
            Self::Command { line, code: None } => write!(f, "`{line}` was ended by a signal"),
            Self::Findings { task, count, hint } => {
                write!(f, "{task}: {count} finding(s) above; {hint}")
            }
            Self::Missing { what, hint } => write!(f, "missing: {what}; {hint}"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Unexpected { what, found } => write!(f, "unexpected {what}: {found}"),
            Self::UnknownTask { name } => {
                write!(f, "no task is called `{name}`; `cargo xtask help` lists them")
            }
            Self::UnknownArgument { task, argument } => {
                write!(f, "{task}: unknown argument `{argument}`; `cargo xtask help` lists them")
            }
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { source, .. } | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}
