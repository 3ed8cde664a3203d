//! Mapping: everything an L2 table says about one guest cluster.

use core::fmt;

use qcow2_format::{L2Bitmap, L2Entry};

/// Everything an L2 table says about one guest cluster: the entry and, in images with extended L2
/// entries, the bitmap of its subclusters. Standard images have none; it is empty there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The entry, called the descriptor where there is a bitmap beside it.
    pub entry: L2Entry,
    /// Two bits for each of the 32 subclusters.
    pub bitmap: L2Bitmap,
}

impl Mapping {
    /// Nothing at all: the backing file answers.
    pub const UNALLOCATED: Self = Self::standard(L2Entry::UNALLOCATED);

    /// An entry of a standard L2 table.
    #[must_use]
    #[inline]
    pub const fn standard(entry: L2Entry) -> Self {
        Self { entry, bitmap: L2Bitmap::EMPTY }
    }

    /// An entry of an extended L2 table.
    #[must_use]
    #[inline]
    pub const fn extended(entry: L2Entry, bitmap: L2Bitmap) -> Self {
        Self { entry, bitmap }
    }
}

impl From<L2Entry> for Mapping {
    fn from(entry: L2Entry) -> Self {
        Self::standard(entry)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.entry.bits())?;
        match self.bitmap {
            L2Bitmap::EMPTY => Ok(()),
            bitmap => write!(f, "/{:#018x}", bitmap.bits()),
        }
    }
}
