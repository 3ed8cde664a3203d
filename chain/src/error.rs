//! What can go wrong with a chain: which layer, which name, and what would have been needed.

use core::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cow_engine::Preallocation;

use crate::format::UnknownFormat;
use crate::handler::HandlerError;
use crate::operation::Refusal;
use crate::pin::BaseFinding;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What can go wrong with a chain.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A layer's file could not be opened or used.
    Storage {
        /// The layer's file.
        layer: PathBuf,
        /// What the storage said.
        source: block_io::Error,
    },
    /// A backing file could not be opened.
    Backing {
        /// The file.
        path: PathBuf,
        /// The layer that names it.
        named_by: PathBuf,
        /// What the storage said.
        source: block_io::Error,
    },
    /// The external data file of a layer could not be opened.
    DataFile {
        /// The file.
        path: PathBuf,
        /// The layer it belongs to.
        named_by: PathBuf,
        /// What the storage said.
        source: block_io::Error,
    },
    /// The policy does not allow following the name of an external data file.
    ForbiddenDataFile {
        /// The layer that names it.
        layer: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// A file of the chain is also the external data file of a layer.
    DataFileInChain {
        /// The layer.
        layer: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// A layer that was not closed cleanly could not be repaired.
    Repair {
        /// The layer's file.
        layer: PathBuf,
        /// Why.
        source: Arc<dyn core::error::Error + Send + Sync>,
    },
    /// A layer is not an acceptable image, or an operation on it failed.
    Image {
        /// The layer's file.
        layer: PathBuf,
        /// What the engine said.
        source: cow_engine::Error,
    },
    /// Something had to be known and nobody said it.
    Missing {
        /// What is missing.
        what: Missing,
        /// The layer it is missing for.
        layer: PathBuf,
        /// The backing file name in question, when it is about one.
        name: Option<String>,
    },
    /// A format that no layer can have here.
    Format {
        /// The layer that names it.
        layer: PathBuf,
        /// What it names.
        source: UnknownFormat,
    },
    /// A backing file name that is not text.
    Name {
        /// The layer that holds it.
        layer: PathBuf,
    },
    /// A backing file name with a protocol that nobody here speaks.
    Protocol {
        /// The layer that holds it.
        layer: PathBuf,
        /// The name.
        name: String,
        /// The protocol.
        protocol: String,
    },
    /// The handler of names with a protocol could not open one.
    Handler {
        /// The layer that holds the name.
        layer: PathBuf,
        /// The name.
        name: String,
        /// What the handler said.
        source: HandlerError,
    },
    /// The policy does not allow opening this file because an image says so.
    Forbidden {
        /// The layer that names it.
        layer: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// The chain comes back to a file that is already in it.
    Loop {
        /// The layer that closes the loop.
        layer: PathBuf,
        /// The file that occurs twice.
        path: PathBuf,
    },
    /// The policy wants backing files to be those that the overlays were made on, and one may not be.
    ChangedBase(Box<BaseFinding>),
    /// The chain has more layers than the policy allows.
    TooDeep {
        /// The layer below which nothing more may follow.
        layer: PathBuf,
        /// The most layers.
        allowed: usize,
    },
    /// The request lies outside the disk.
    OutOfRange {
        /// First byte of the request.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// Size of the disk in bytes.
        size: u64,
    },
    /// A compressed write to a format that has no compression.
    NotCompressible {
        /// The top layer.
        layer: PathBuf,
    },
    /// A kind of preallocation that a raw layer, which has no metadata, cannot have.
    RawPreallocation {
        /// The top layer.
        layer: PathBuf,
        /// What was asked for.
        found: Preallocation,
    },
    /// An operation on the chain was not begun.
    Refused(Refusal),
    /// An operation was stopped by whoever watched it. The chain shows what it showed before.
    Cancelled,
    /// The chain was opened read-only.
    ReadOnly,
}

/// What had to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The format of the top layer.
    TopFormat,
    /// The format of a backing file.
    BackingFormat,
}

impl Error {
    /// The host's error number, if a host call is at the bottom of this.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Storage { source, .. } | Self::Backing { source, .. } => source.raw_os_error(),
            Self::Image { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl Error {
    /// The call that allows what was refused, where there is one.
    #[must_use]
    pub const fn allowed_by(&self) -> Option<&'static str> {
        match self {
            Self::ForbiddenDataFile { .. } => Some("Policy::data_files or OpenOptions::data_file"),
            Self::Missing { what: Missing::TopFormat, .. } => {
                Some("OpenOptions::format or Policy::probe")
            }
            Self::Missing { what: Missing::BackingFormat, .. } => {
                Some("OpenOptions::backing_format or Policy::probe")
            }
            Self::Protocol { .. } => Some("OpenOptions::handler"),
            Self::Forbidden { .. } => Some("Policy::allow_directory"),
            Self::TooDeep { .. } => Some("Policy::depth_max"),
            _ => None,
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Storage { source, .. } | Self::Backing { source, .. } => Some(source),
            Self::DataFile { source, .. } => Some(source),
            Self::Repair { source, .. } => Some(&**source),
            Self::Image { source, .. } => Some(source),
            Self::Format { source, .. } => Some(source),
            Self::Handler { source, .. } => Some(&**source),
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl Error {
    /// What can go wrong with external data files.
    fn fmt_data_file(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataFile { path, named_by, source } => {
                write!(f, "data file '{}' of '{}': {source}", path.display(), named_by.display())
            }
            Self::ForbiddenDataFile { layer, path } => write!(
                f,
                "'{}': the policy does not allow following the name of its data file '{}'",
                layer.display(),
                path.display()
            ),
            Self::DataFileInChain { layer, path } => write!(
                f,
                "'{}': its data file '{}' is also a layer of the chain",
                layer.display(),
                path.display()
            ),
            _ => Ok(()),
        }
    }
}

/// One clause, and the call that allows what was refused; without that in the alternate form
/// (`{:#}`), for programs, which have flags instead.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_clause(f)?;
        match self.allowed_by() {
            Some(call) if !f.alternate() => write!(f, " (allowed by {call})"),
            _ => Ok(()),
        }
    }
}

impl Error {
    fn fmt_clause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { layer, source } => write!(f, "'{}': {source}", layer.display()),
            Self::Backing { path, named_by, source } => {
                write!(f, "backing file '{}' of '{}': {source}", path.display(), named_by.display())
            }
            Self::DataFile { .. }
            | Self::ForbiddenDataFile { .. }
            | Self::DataFileInChain { .. } => self.fmt_data_file(f),
            Self::Repair { layer, source } => {
                write!(f, "'{}': could not repair dirty image: {source}", layer.display())
            }
            Self::Image { layer, source } => write!(f, "'{}': {source}", layer.display()),
            Self::Missing { what: Missing::TopFormat, layer, .. } => {
                write!(f, "'{}': its format was not given", layer.display())
            }
            Self::Missing { what: Missing::BackingFormat, layer, name } => write!(
                f,
                "'{}': header has no format for backing file '{}'",
                layer.display(),
                name.as_deref().unwrap_or_default()
            ),
            Self::Format { layer, source } => write!(f, "'{}': {source}", layer.display()),
            Self::Name { layer } => {
                write!(f, "'{}': backing file name is not UTF-8 text", layer.display())
            }
            Self::Protocol { layer, name, protocol } => write!(
                f,
                "'{}': backing file '{name}' uses protocol '{protocol}', allowed are local files",
                layer.display()
            ),
            Self::Handler { layer, name, source } => {
                write!(f, "'{}': backing file '{name}': {source}", layer.display())
            }
            Self::Forbidden { layer, path } => write!(
                f,
                "'{}': backing file '{}' lies outside the allowed folders",
                layer.display(),
                path.display()
            ),
            Self::Loop { layer, path } => write!(
                f,
                "'{}': backing file '{}' is already in the chain above it",
                layer.display(),
                path.display()
            ),
            Self::ChangedBase(finding) => {
                write!(f, "{finding}; Policy::require_same_base(false) opens it all the same")
            }
            Self::TooDeep { layer, allowed } => {
                write!(f, "'{}': chain has more than {allowed} layers", layer.display())
            }
            Self::OutOfRange { offset, len, size } => write!(
                f,
                "request of {len} bytes at offset {offset:#x} lies outside the disk of {size} bytes"
            ),
            Self::NotCompressible { layer } => {
                write!(f, "'{}': raw images have no compressed clusters", layer.display())
            }
            Self::RawPreallocation { layer, found } => write!(
                f,
                "'{}': preallocation is {found}, allowed is off, falloc or full for a raw image",
                layer.display()
            ),
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
            Self::Cancelled => f.write_str("cancelled"),
            Self::ReadOnly => f.write_str("chain was opened read-only"),
        }
    }
}
