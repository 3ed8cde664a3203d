//! `Error`: what can go wrong on host storage, with the place where it went wrong.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Alignment, Permission};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What can go wrong on host storage.
///
/// Clones share the host's error, so whoever has to repeat the first failure later can keep it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A path could not be opened or created.
    Open {
        /// The path as it was passed.
        path: PathBuf,
        /// What the host said.
        source: Arc<io::Error>,
    },
    /// The host failed an operation.
    Io {
        /// What was being done.
        operation: Operation,
        /// Where it started, in bytes, when the operation has a place.
        offset: Option<u64>,
        /// How many bytes it was for, when the operation has a length.
        len: Option<u64>,
        /// What the host said.
        source: Arc<io::Error>,
    },
    /// Another holder of locks excludes the lock that was asked for.
    Locked {
        /// The permission that could not be had.
        permission: Permission,
        /// `false`: it could not be used, because somebody forbids it.
        /// `true`: it could not be forbidden to others, because somebody uses it.
        shared: bool,
        /// The byte of the file on which the conflicting lock lies.
        byte: u64,
    },
    /// The object only accepts reads.
    ReadOnly {
        /// What was being done.
        operation: Operation,
    },
    /// The range does not end at a position that a host can name (at most 2^63 - 1).
    OutOfRange {
        /// What was being done.
        operation: Operation,
        /// Where the range starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
    },
    /// The object ends before the last byte that was needed.
    ShortRead {
        /// Where the read started, in bytes.
        offset: u64,
        /// How many bytes were needed.
        wanted: u64,
        /// How many there were.
        found: u64,
    },
    /// A request of a [`Queue`](crate#deep-queues) does not fit the blocks of a direct file, or its
    /// memory does not.
    Misaligned {
        /// What was being done.
        operation: Operation,
        /// Where the request starts, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        len: u64,
        /// What offset, lengths and addresses must be multiples of.
        alignment: Alignment,
    },
    /// The host lacks io_uring, or forbids it (containers often do).
    NoRing {
        /// What the host said.
        source: Arc<io::Error>,
    },
}

/// What was being done when an [`Error`] arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Making a range read as zeros.
    WriteZeroes,
    /// Giving the space of a range back.
    PunchHole,
    /// Reserving space for a range.
    Allocate,
    /// Copying a range between two objects.
    Copy,
    /// Cutting or extending the object.
    SetLen,
    /// Making completed changes durable.
    Sync,
    /// Asking for the length.
    Len,
    /// Asking where data and holes lie.
    Extent,
    /// Asking for attributes: space in use, identity.
    Attributes,
    /// Taking or dropping locks.
    Lock,
    /// Handing requests to a ring and waiting for their ends.
    Ring,
}

impl Error {
    /// The host's failure of `operation` on the range.
    #[must_use]
    pub fn io(operation: Operation, offset: u64, len: u64, source: io::Error) -> Self {
        let (offset, len) = (Some(offset), Some(len));
        Self::Io { operation, offset, len, source: Arc::new(source) }
    }

    /// The host's failure of an `operation` that has no place and no length.
    #[must_use]
    pub fn host(operation: Operation, source: io::Error) -> Self {
        Self::Io { operation, offset: None, len: None, source: Arc::new(source) }
    }

    /// The host's refusal to open `path`.
    #[must_use]
    pub fn open(path: &Path, source: io::Error) -> Self {
        Self::Open { path: path.to_owned(), source: Arc::new(source) }
    }

    /// The closest kind of [`std::io`].
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Open { source, .. } | Self::Io { source, .. } => source.kind(),
            Self::NoRing { .. } => io::ErrorKind::Unsupported,
            Self::Locked { .. } => io::ErrorKind::WouldBlock,
            Self::ReadOnly { .. } => io::ErrorKind::PermissionDenied,
            Self::OutOfRange { .. } | Self::Misaligned { .. } => io::ErrorKind::InvalidInput,
            Self::ShortRead { .. } => io::ErrorKind::UnexpectedEof,
        }
    }

    /// The host's error number (`errno`), where the host was asked and gave one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.host_error().and_then(io::Error::raw_os_error)
    }

    /// The host's words alone (`strerror`): "No space left on device". `None` where the host
    /// was not asked.
    #[must_use]
    pub fn host_text(&self) -> Option<String> {
        let source = self.host_error()?;
        let text = source.to_string();
        // std appends the number; programs that print like qemu-img want the bare sentence.
        let number = source.raw_os_error().map(|code| format!(" (os error {code})"));
        let bare = number.and_then(|number| text.strip_suffix(&number).map(str::to_owned));
        Some(bare.unwrap_or(text))
    }

    fn host_error(&self) -> Option<&io::Error> {
        match self {
            Self::Open { source, .. } | Self::Io { source, .. } | Self::NoRing { source } => {
                Some(source)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => {
                write!(f, "cannot open '{}': {source}", path.display())
            }
            Self::Io { operation, offset, len, source } => {
                write!(f, "cannot {operation}")?;
                write_place(f, *operation, *offset, *len)?;
                write!(f, ": {source}")
            }
            // Upper case on purpose: operators and scripts look for QEMU's very words.
            Self::Locked { permission, shared: false, .. } => {
                write!(f, "Failed to get \"{permission}\" lock")
            }
            Self::Locked { permission, shared: true, .. } => {
                write!(f, "Failed to get shared \"{permission}\" lock")
            }
            Self::ReadOnly { operation } => write!(f, "cannot {operation}: opened read-only"),
            Self::OutOfRange { operation, offset, len } => {
                write!(f, "cannot {operation}")?;
                write_place(f, *operation, Some(*offset), Some(*len))?;
                write!(f, ": the range ends past the largest file position")
            }
            Self::ShortRead { offset, wanted, found } => {
                write!(f, "cannot read {wanted} bytes at offset {offset}: only {found} are there")
            }
            Self::Misaligned { operation, offset, len, alignment } => {
                write!(f, "cannot {operation}")?;
                write_place(f, *operation, Some(*offset), Some(*len))?;
                let (request, memory) = (alignment.request(), alignment.memory());
                write!(
                    f,
                    ": the file takes multiples of {request} in memory at multiples of {memory}"
                )
            }
            Self::NoRing { source } => {
                write!(f, "io_uring is not available on this host: {source}")
            }
        }
    }
}

fn write_place(
    f: &mut fmt::Formatter<'_>,
    operation: Operation,
    offset: Option<u64>,
    len: Option<u64>,
) -> fmt::Result {
    if let Some(len) = len {
        write!(f, " {len} bytes")?;
    }
    // A length is set for the whole object; its range always starts at 0.
    if let Some(offset) = offset.filter(|_| operation != Operation::SetLen) {
        write!(f, " at offset {offset}")?;
    }
    Ok(())
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write zeros to",
            Self::PunchHole => "punch out",
            Self::Allocate => "allocate",
            Self::Copy => "copy",
            Self::SetLen => "set the length to",
            Self::Sync => "make the file durable",
            Self::Len => "ask for the length",
            Self::Extent => "ask for data and holes",
            Self::Attributes => "ask for the attributes",
            Self::Lock => "lock",
            Self::Ring => "go on with io_uring",
        })
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.host_error().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

const fn assert_error<T: core::error::Error + Clone + Send + Sync + 'static>() {}
const _: () = assert_error::<Error>();

#[cfg(test)]
mod tests;
