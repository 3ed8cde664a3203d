//! `ReadPlan`: where the bytes of a guest range come from.

use core::fmt;

use cluster_map::{Run, Runs};
use qcow2_format::GuestOffset;

/// Where the bytes of a guest range come from, in guest order.
///
/// One image answers for itself only: ranges it does not own are [`below`](cluster_map::RunKind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    pub(crate) guest: GuestOffset,
    pub(crate) len: u64,
    pub(crate) runs: Runs,
}

impl ReadPlan {
    /// First guest byte.
    #[must_use]
    pub const fn guest(&self) -> GuestOffset {
        self.guest
    }

    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs: no gap, no overlap, neighbours merged.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        self.runs.as_slice()
    }
}

impl fmt::Display for ReadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read guest {}+{:#x}", self.guest, self.len)?;
        for run in self.runs() {
            write!(f, "\n  {run}")?;
        }
        Ok(())
    }
}
