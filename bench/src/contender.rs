//! What everybody who takes part must be able to do.

use std::path::Path;

use crate::failure::Outcome;

/// An open disk.
pub(crate) trait Disk {
    fn read(&self, offset: u64, buf: &mut [u8]) -> Outcome;
    fn write(&self, offset: u64, buf: &[u8]) -> Outcome;
    /// Makes everything durable.
    fn flush(&self) -> Outcome;
    /// Writes everything out and gives the disk up.
    fn close(self: Box<Self>) -> Outcome;
}

/// An open disk, and whether several threads may use it.
pub(crate) enum Handle {
    Shared(Box<dyn Disk + Send + Sync>),
    #[cfg_attr(not(feature = "others"), expect(dead_code, reason = "only others are like this"))]
    Single(Box<dyn Disk>),
}

impl Handle {
    pub(crate) fn disk(&self) -> &dyn Disk {
        match self {
            Self::Shared(disk) => &**disk,
            Self::Single(disk) => &**disk,
        }
    }

    pub(crate) fn close(self) -> Outcome {
        match self {
            Self::Shared(disk) => disk.close(),
            Self::Single(disk) => disk.close(),
        }
    }
}

/// One that takes part.
#[derive(Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Opens an image (or a raw file, for bare calls), with all its layers.
    pub(crate) open: fn(&Path, writable: bool) -> Outcome<Handle>,
    pub(crate) understands_extended_l2: bool,
    /// Works on a raw file instead of an image.
    pub(crate) bare: bool,
    /// Somebody else's code.
    pub(crate) is_other: bool,
}
