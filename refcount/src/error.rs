//! What can be wrong with counts: which cluster, what its count is, what was asked.

use core::fmt;

use qcow2_format::{HostCluster, HostOffset};
use static_assertions::assert_impl_all;

/// A refcount operation that must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A cluster is in use although its count is already 0.
    Underflow {
        /// The cluster.
        cluster: HostCluster,
    },
    /// The count of a cluster is at the largest value its width can hold.
    Overflow {
        /// The cluster.
        cluster: HostCluster,
        /// The largest count.
        max: u64,
    },
    /// The refcount table would exceed its limit: the image cannot grow further.
    TableTooLarge {
        /// Bytes the table would need.
        needed_bytes: u64,
        /// The largest table.
        allowed_bytes: u64,
    },
    /// A refcount table entry points at no cluster boundary.
    UnalignedBlock {
        /// Index of the entry.
        table_index: u64,
        /// What it says.
        found: HostOffset,
    },
    /// Counts say that the header cluster is free; allocating from them would destroy data.
    HeaderFree,
    /// The host offset would leave the 56 bits that table entries have.
    BeyondLimit {
        /// The first cluster beyond.
        cluster: HostCluster,
    },
}

assert_impl_all!(Error: core::error::Error, Send, Sync, Copy);

impl Error {
    /// Whether the counts on disk contradict themselves or the references; otherwise they only
    /// have reached a limit.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Underflow { .. } | Self::UnalignedBlock { .. } | Self::HeaderFree)
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Underflow { cluster } => {
                write!(f, "refcount of host cluster {cluster} is 0 although the cluster is in use")
            }
            Self::Overflow { cluster, max } => {
                write!(f, "refcount of host cluster {cluster} is at its largest value {max}")
            }
            Self::TableTooLarge { needed_bytes, allowed_bytes } => write!(
                f,
                "refcount table: {needed_bytes} bytes needed, allowed are {allowed_bytes}"
            ),
            Self::UnalignedBlock { table_index, found } => write!(
                f,
                "refcount table: entry {table_index} is {found}, allowed is a multiple of the \
                 cluster size"
            ),
            Self::HeaderFree => {
                f.write_str("refcount block: the header cluster has refcount 0, allowed is 1")
            }
            Self::BeyondLimit { cluster } => {
                write!(f, "host cluster {cluster} lies beyond 2^56 bytes")
            }
        }
    }
}
