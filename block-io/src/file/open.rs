//! How files come to be open: options, creation, and what is refused at the door.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FileStorage;
use super::direct::Direct;
use super::lock::HeldLock;
use super::order::Order;
use super::space::Refused;
use crate::{Error, Lock, Operation, Result, Storage};

/// How to open a file: read-only, not creating, through the page cache, with locks where the
/// host has them, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    write: bool,
    direct: bool,
    ignore_syncs: bool,
    create: Create,
    locking: Locking,
    ring: bool,
}

/// Whether opening may create the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// The file must exist.
    #[default]
    Never,
    /// An existing file is opened as it is, a missing one is created.
    IfMissing,
    /// The file must not exist.
    New,
    /// An existing file is cut to nothing, a missing one is created. Nothing is cut before
    /// [`Lock::creating`] is held; it stays held until it is changed.
    Truncate,
}

/// Whether locks reach the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locking {
    /// Lock where the file system knows how; otherwise accept every lock.
    #[default]
    Auto,
    /// Lock, or fail.
    On,
    /// Accept every lock and tell nobody.
    Off,
}

impl OpenOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens for reading and writing instead of reading alone.
    #[must_use]
    pub fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Whether a missing file is created; anything but [`Create::Never`] needs
    /// [`write`](OpenOptions::write).
    #[must_use]
    pub fn create(mut self, create: Create) -> Self {
        self.create = create;
        self
    }

    /// Goes around the page cache (`O_DIRECT`).
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// Promises no durability: a sync returns at once and the host writes back when it likes. For
    /// files that are made anew if the host goes down before they are complete.
    #[must_use]
    pub fn ignore_syncs(mut self, ignore: bool) -> Self {
        self.ignore_syncs = ignore;
        self
    }

    /// Whether locks reach the host.
    #[must_use]
    pub fn locking(mut self, locking: Locking) -> Self {
        self.locking = locking;
        self
    }

    /// Whether large requests become many that are under way at once, where
    /// [`Files`](crate::Files) open the file.
    #[cfg(feature = "io-uring")]
    #[must_use]
    pub fn ring(mut self, ring: bool) -> Self {
        self.ring = ring;
        self
    }

    /// Whether the file is to be written.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.write
    }

    /// Whether the file must not exist yet.
    #[must_use]
    pub fn wants_new(&self) -> bool {
        self.create == Create::New
    }

    /// Whether a missing file is to be created.
    #[must_use]
    pub fn may_create(&self) -> bool {
        self.create != Create::Never
    }

    /// Whether requests are to go through a ring.
    #[must_use]
    pub fn wants_ring(&self) -> bool {
        self.ring
    }

    /// Opens `path`, which must name a regular file or a block device.
    ///
    /// # Errors
    /// [`Error::Open`] when the host refuses, when the object is of another kind, or when
    /// creation is asked for without writing; [`Error::Locked`] when the file was to be cut and
    /// somebody uses it.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileStorage> {
        let path = path.as_ref();
        if self.create != Create::Never && !self.write {
            return Err(Error::open(path, Errno::INVAL.into()));
        }
        let refuse = |error: io::Error| Error::open(path, error);
        let file = self.open_host(path).map_err(refuse)?;
        let mut storage = FileStorage::build(file, self.locking).map_err(refuse)?;
        storage.ignores_syncs = self.ignore_syncs;
        if self.create == Create::Truncate {
            storage.lock(Lock::creating())?;
            storage.set_len(0)?;
        }
        Ok(storage)
    }

    fn open_host(&self, path: &Path) -> io::Result<File> {
        // Without O_NONBLOCK the name of a pipe, perhaps taken from a hostile image, would hang
        // here until somebody writes to it.
        let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        flags |= if self.write { OFlags::RDWR } else { OFlags::RDONLY };
        if self.direct {
            flags |= OFlags::DIRECT;
        }
        flags |= match self.create {
            Create::Never => OFlags::empty(),
            // Never O_TRUNC: the file may be in use, and only a lock can tell.
            Create::IfMissing | Create::Truncate => OFlags::CREATE,
            Create::New => OFlags::CREATE | OFlags::EXCL,
        };
        let mode = Mode::from_raw_mode(0o644);
        let fd = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, mode))?;
        Ok(File::from(fd))
    }
}

impl FileStorage {
    /// Takes over an open file, which must be open for reading at least; whether it can be
    /// written and whether its I/O is direct is asked from the host. Locks are as with
    /// [`Locking::Auto`].
    ///
    /// # Errors
    /// [`Error::Io`] when the file is neither a regular file nor a block device, is not open for
    /// reading, is open for appending (the host would ignore positions), or the host does not
    /// answer.
    pub fn from_file(file: File) -> Result<Self> {
        Self::build(file, Locking::Auto).map_err(|error| Error::host(Operation::Attributes, error))
    }

    fn build(file: File, locking: Locking) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        let is_device = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => false,
            FileType::BlockDevice => true,
            FileType::Directory => return Err(Errno::ISDIR.into()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, NEITHER)),
        };
        let flags = rustix::fs::fcntl_getfl(&file)?;
        let access = flags & OFlags::RWMODE;
        if access == OFlags::WRONLY || flags.contains(OFlags::APPEND) {
            return Err(Errno::BADF.into());
        }
        if flags.contains(OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
        }
        let direct = if flags.contains(OFlags::DIRECT) {
            Some(Direct::probe(&file, is_device))
        } else {
            None
        };
        Ok(Self {
            read_only: access == OFlags::RDONLY,
            is_device,
            ignores_syncs: false,
            direct,
            order: Order::default(),
            held: HeldLock::new(locking),
            refused: Refused::default(),
            file,
        })
    }
}

/// What is said about pipes, sockets and character devices.
const NEITHER: &str = "neither a regular file nor a block device";
