//! What requests go to: open files that stay open while a request is under way.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use crate::{Alignment, Error, FileStorage, Operation, Result};

/// An open file that a [`Queue`](super::Queue) reads and writes: a [`FileStorage`], or any
/// [`File`], a pipe for example, whose reads go on until the buffer is full or the other side has
/// closed it.
pub trait Target: sealed::Sealed + Send + Sync + 'static {}

impl Target for FileStorage {}
impl Target for File {}

pub(super) mod sealed {
    use super::{Alignment, BorrowedFd, Operation, Result};

    pub trait Sealed {
        /// The descriptor, the same one every time.
        fn descriptor(&self) -> BorrowedFd<'_>;
        /// What requests must fit.
        fn alignment(&self) -> Alignment;
        /// Whether writes can succeed.
        fn writable(&self, operation: Operation) -> Result<()>;
        /// Whether a sync is a promise to nobody.
        fn ignores_syncs(&self) -> bool;
        /// Called around the time in which the kernel may be writing.
        fn write_begins(&self);
        fn write_is_done(&self);
    }
}

impl sealed::Sealed for FileStorage {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn alignment(&self) -> Alignment {
        crate::Storage::alignment(self)
    }

    fn writable(&self, operation: Operation) -> Result<()> {
        if crate::Storage::is_read_only(self) { Err(Error::ReadOnly { operation }) } else { Ok(()) }
    }

    fn ignores_syncs(&self) -> bool {
        FileStorage::ignores_syncs(self)
    }

    fn write_begins(&self) {
        self.outsider_begins();
    }

    fn write_is_done(&self) {
        self.outsider_is_done();
    }
}

impl sealed::Sealed for File {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn alignment(&self) -> Alignment {
        Alignment::NONE
    }

    fn writable(&self, _: Operation) -> Result<()> {
        Ok(()) // The host says so itself.
    }

    fn ignores_syncs(&self) -> bool {
        false
    }

    fn write_begins(&self) {}

    fn write_is_done(&self) {}
}
