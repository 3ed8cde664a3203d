//! Does a write here need a new cluster, and why; and where the old bytes around it come from.

use core::fmt;

use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset, L2Entry};

use crate::cluster_type::ClusterType;
use crate::dialect::Dialect;
use crate::error::Error;

/// The answer to "does a write to this cluster need a new cluster?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDecision {
    /// No: normal with COPIED. The bytes go to the host cluster, the entry stays as it is.
    InPlace {
        /// Start of the data cluster.
        host: HostOffset,
    },
    /// Yes: the write allocates, copies what it does not cover, and publishes a new entry.
    NewCluster(NewClusterReason),
}

/// Why a write needs a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewClusterReason {
    /// The image owns nothing here.
    Unallocated,
    /// The image only says "zeros" here.
    ZeroPlain,
    /// The entry says "zeros" and keeps a host cluster reserved. Its bytes may be stale, so all of
    /// it must be written and the entry republished; a reserved cluster that nobody shares serves
    /// as the new one.
    ZeroAllocated {
        /// The reserved cluster.
        host: HostOffset,
        /// Whether COPIED says that nobody else uses it.
        owned: bool,
    },
    /// Compressed clusters are never changed in place.
    Compressed(CompressedDescriptor),
    /// The data cluster lacks COPIED: a snapshot may share it.
    Shared {
        /// Start of the shared cluster.
        host: HostOffset,
    },
}

/// Where the bytes come from that a new cluster needs and the write does not bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CowSource {
    /// The backing file, or zeros without one.
    Below,
    /// Zeros.
    Zeros,
    /// The old host cluster.
    Host(HostOffset),
    /// The old compressed cluster, decompressed.
    Compressed(CompressedDescriptor),
}

impl WriteDecision {
    /// Decides for the cluster at `guest` with this entry.
    ///
    /// # Errors
    /// The entry means nothing in this dialect.
    pub fn decide(dialect: Dialect, guest: GuestOffset, entry: L2Entry) -> Result<Self, Error> {
        let cluster = ClusterType::classify(dialect, guest, entry)?;
        let owned = entry.is_copied();
        Ok(match cluster {
            ClusterType::Normal { host } if owned => Self::InPlace { host },
            ClusterType::Normal { host } => Self::NewCluster(NewClusterReason::Shared { host }),
            ClusterType::Unallocated => Self::NewCluster(NewClusterReason::Unallocated),
            ClusterType::ZeroPlain => Self::NewCluster(NewClusterReason::ZeroPlain),
            ClusterType::ZeroAllocated { host } => {
                Self::NewCluster(NewClusterReason::ZeroAllocated { host, owned })
            }
            ClusterType::Compressed(descriptor) => {
                Self::NewCluster(NewClusterReason::Compressed(descriptor))
            }
        })
    }
}

impl NewClusterReason {
    /// Where the bytes around the write come from.
    #[must_use]
    pub const fn cow_source(self) -> CowSource {
        match self {
            Self::Unallocated => CowSource::Below,
            Self::ZeroPlain | Self::ZeroAllocated { .. } => CowSource::Zeros,
            Self::Compressed(descriptor) => CowSource::Compressed(descriptor),
            Self::Shared { host } => CowSource::Host(host),
        }
    }

    /// The cluster that is already reserved for this guest cluster alone, if there is one.
    #[must_use]
    pub const fn reserved(self) -> Option<HostOffset> {
        match self {
            Self::ZeroAllocated { host, owned: true } => Some(host),
            _ => None,
        }
    }

    /// One clause for people: why a new cluster is needed.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Unallocated => "unallocated: this image owns nothing here yet",
            Self::ZeroPlain => "zero-plain: reads as zeros without a host cluster",
            Self::ZeroAllocated { owned: true, .. } => {
                "zero-allocated: the reserved cluster is filled completely and its entry republished"
            }
            Self::ZeroAllocated { owned: false, .. } => {
                "zero-allocated without COPIED: the reserved cluster may be shared"
            }
            Self::Compressed(_) => "compressed: compressed clusters are never changed in place",
            Self::Shared { .. } => {
                "normal without COPIED: the cluster may be shared with a snapshot"
            }
        }
    }
}

impl fmt::Display for CowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below => f.write_str("below"),
            Self::Zeros => f.write_str("zeros"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::Compressed(descriptor) => {
                write!(f, "compressed host {}", descriptor.host_offset())
            }
        }
    }
}
