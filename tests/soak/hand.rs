//! `Hand`: whose turn it is.

use testkit::{Output, Qemu, built_program, run};

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// The library in this process.
    Library,
    /// `qimg` and `qimg-io`.
    Ours,
    /// `qemu-img` and `qemu-io`.
    Theirs,
}

/// Everybody; the library is by far the fastest.
pub(crate) const HANDS: [Hand; 5] =
    [Hand::Library, Hand::Library, Hand::Ours, Hand::Theirs, Hand::Theirs];

impl Hand {
    /// Runs the image tool of this hand; the library has none and borrows ours.
    pub(crate) fn img(self, args: &[&str]) -> Output {
        match self {
            Self::Library | Self::Ours => run(&built_program("qimg"), args),
            Self::Theirs => Qemu::img(args),
        }
    }

    /// Runs the request tool of this hand.
    pub(crate) fn io(self, args: &[String]) -> Output {
        match self {
            Self::Library | Self::Ours => run(&built_program("qimg-io"), args),
            Self::Theirs => Qemu::io(args),
        }
    }
}
