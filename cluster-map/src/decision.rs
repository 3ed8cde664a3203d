//! Does a write here need a new cluster, and why; and where the old bytes around it come from.

use core::fmt;
use core::ops::Range;

use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset, L2Bitmap};

use crate::cluster_type::ClusterType;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::mapping::Mapping;
use crate::subcluster::{SubclusterType, Subclusters, written_bitmap};

/// The answer to "does a write to this cluster need a new cluster?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDecision {
    /// No: normal with COPIED. The bytes go to the host cluster, the entry stays as it is.
    InPlace {
        /// Start of the data cluster.
        host: HostOffset,
    },
    /// Yes, or at least a new entry: the write copies what it does not cover, and publishes.
    NewCluster(ClusterWrite),
}

/// What a write to (part of) one cluster has to do beside writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterWrite {
    /// Why a new entry is needed.
    pub reason: NewClusterReason,
    /// The host cluster that serves, where none has to be found: it is reserved for this guest
    /// cluster alone, or an external data file leaves no choice.
    pub place: Option<HostOffset>,
    /// Old bytes right before the written ones.
    pub cow_start: CowExtent,
    /// Old bytes right behind the written ones.
    pub cow_end: CowExtent,
    /// The bitmap of the new entry; empty in standard images.
    pub bitmap: L2Bitmap,
}

/// Old bytes beside the written ones that go to the new place with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CowExtent {
    /// Number of bytes, less than a cluster.
    pub len: u64,
    /// Where they come from.
    pub source: CowSource,
}

/// Why a write needs a new entry.
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
    /// The cluster is the image's own, but some subclusters that are written hold no data yet.
    Subclusters {
        /// Start of the cluster.
        host: HostOffset,
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
    /// The image as it stands: the source differs from subcluster to subcluster.
    Image,
}

impl WriteDecision {
    /// Decides for the cluster at `guest` with this mapping, of which a write touches the bytes
    /// `touched`, counted from the start of the cluster (at least one, none beyond its end).
    ///
    /// # Errors
    /// The entry means nothing in this dialect.
    #[inline]
    pub fn decide(
        dialect: Dialect,
        guest: GuestOffset,
        mapping: Mapping,
        touched: Range<u64>,
    ) -> Result<Self, Error> {
        let decision = if dialect.has_subclusters() {
            extended(dialect, Subclusters::classify(dialect, guest, mapping)?, mapping, touched)
        } else {
            let cluster = ClusterType::classify(dialect, guest, mapping.entry)?;
            standard(dialect, cluster, mapping, touched)
        };
        Ok(match decision {
            // Nothing is counted there, so nothing is shared, and there is only one place.
            Self::NewCluster(ClusterWrite {
                reason: NewClusterReason::Shared { host }, ..
            }) if dialect.has_external_data() => Self::InPlace { host },
            Self::NewCluster(write) if dialect.has_external_data() => {
                let place = Some(HostOffset::new(guest.get()));
                Self::NewCluster(ClusterWrite { place, ..write })
            }
            decision => decision,
        })
    }
}

/// Clusters as a whole: everything around the write is copied.
fn standard(
    dialect: Dialect,
    cluster: ClusterType,
    mapping: Mapping,
    touched: Range<u64>,
) -> WriteDecision {
    let owned = mapping.entry.is_copied();
    let reason = match cluster {
        ClusterType::Normal { host } if owned => return WriteDecision::InPlace { host },
        ClusterType::Normal { host } => NewClusterReason::Shared { host },
        ClusterType::Unallocated => NewClusterReason::Unallocated,
        ClusterType::ZeroPlain => NewClusterReason::ZeroPlain,
        ClusterType::ZeroAllocated { host } => NewClusterReason::ZeroAllocated { host, owned },
        ClusterType::Compressed(descriptor) => NewClusterReason::Compressed(descriptor),
    };
    let whole = 0..dialect.geometry().cluster_bytes();
    let source = reason.cow_source();
    WriteDecision::NewCluster(ClusterWrite::around(reason, touched, whole, source, mapping.bitmap))
}

/// Subclusters: only those that the write touches in part are copied, as long as the cluster is
/// not moved.
fn extended(
    dialect: Dialect,
    subclusters: Subclusters,
    mapping: Mapping,
    touched: Range<u64>,
) -> WriteDecision {
    let bytes = dialect.geometry().subcluster_bytes().max(1);
    let first = index_of(touched.start, bytes);
    let last = index_of(touched.end.saturating_sub(1), bytes);
    let written = first..last.saturating_add(1);
    let mut kinds = written.clone().map(|index| subclusters.kind(index));
    let (reason, written) = match subclusters.cluster() {
        ClusterType::Compressed(descriptor) => {
            (NewClusterReason::Compressed(descriptor), 0..L2Bitmap::SUBCLUSTER_COUNT)
        }
        ClusterType::Normal { host } | ClusterType::ZeroAllocated { host } => {
            // Nobody counts, and nobody shares, what lies in an external data file.
            if !mapping.entry.is_copied() && !dialect.has_external_data() {
                let kept = allocated_extent(mapping.bitmap).unwrap_or(written.clone());
                let moved = written.start.min(kept.start)..written.end.max(kept.end);
                (NewClusterReason::Shared { host }, moved)
            } else if kinds.all(|kind| matches!(kind, SubclusterType::Normal { .. })) {
                return WriteDecision::InPlace { host };
            } else {
                (NewClusterReason::Subclusters { host }, written)
            }
        }
        ClusterType::Unallocated | ClusterType::ZeroPlain => {
            let zero = kinds.all(|kind| kind == SubclusterType::ZeroPlain);
            let reason =
                if zero { NewClusterReason::ZeroPlain } else { NewClusterReason::Unallocated };
            (reason, written)
        }
    };
    let start = u64::from(written.start).saturating_mul(bytes);
    let end = u64::from(written.end).saturating_mul(bytes);
    let bitmap = written_bitmap(mapping.bitmap, written);
    let source = reason.cow_source();
    let mut write = ClusterWrite::around(reason, touched, start..end, source, bitmap);
    if write.moves_nothing() {
        write.cow_start = write.cow_start.in_subcluster(subclusters.kind(first));
        write.cow_end = write.cow_end.in_subcluster(subclusters.kind(last));
    } else if let NewClusterReason::Shared { .. } = reason {
        write.cow_start.source = CowSource::Image;
        write.cow_end.source = CowSource::Image;
    }
    WriteDecision::NewCluster(write)
}

/// Index of the subcluster that holds a byte of the cluster.
fn index_of(byte: u64, subcluster_bytes: u64) -> u32 {
    // A power of two; a division would take long.
    let index = byte.checked_shr(subcluster_bytes.trailing_zeros()).unwrap_or(0);
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// From the first to the last subcluster that holds data.
fn allocated_extent(bitmap: L2Bitmap) -> Option<Range<u32>> {
    let bits = bitmap.allocated();
    let end = u32::BITS.saturating_sub(bits.leading_zeros());
    (bits != 0).then(|| bits.trailing_zeros()..end)
}

impl ClusterWrite {
    /// A write of `touched` that brings everything of `all` to the new place.
    fn around(
        reason: NewClusterReason,
        touched: Range<u64>,
        all: Range<u64>,
        source: CowSource,
        bitmap: L2Bitmap,
    ) -> Self {
        let extent = |len| CowExtent { len, source };
        Self {
            reason,
            place: reason.reserved(),
            cow_start: extent(touched.start.saturating_sub(all.start)),
            cow_end: extent(all.end.saturating_sub(touched.end)),
            bitmap,
        }
    }

    /// Whether the old cluster, if there is one, goes on holding what is not written.
    const fn moves_nothing(&self) -> bool {
        matches!(
            self.reason,
            NewClusterReason::Unallocated
                | NewClusterReason::ZeroPlain
                | NewClusterReason::Subclusters { .. }
        )
    }
}

impl CowExtent {
    /// The rest of a subcluster that is written in part.
    const fn in_subcluster(self, kind: SubclusterType) -> Self {
        match kind {
            // It holds its bytes already, and keeps them.
            SubclusterType::Normal { .. } => Self { len: 0, ..self },
            SubclusterType::ZeroPlain | SubclusterType::ZeroAllocated { .. } => {
                Self { source: CowSource::Zeros, ..self }
            }
            SubclusterType::UnallocatedPlain | SubclusterType::UnallocatedAllocated { .. } => {
                Self { source: CowSource::Below, ..self }
            }
            SubclusterType::Compressed(_) => self,
        }
    }
}

impl NewClusterReason {
    /// Where the bytes around the write come from, as far as the reason alone tells.
    #[must_use]
    pub const fn cow_source(self) -> CowSource {
        match self {
            Self::Unallocated | Self::Subclusters { .. } => CowSource::Below,
            Self::ZeroPlain | Self::ZeroAllocated { .. } => CowSource::Zeros,
            Self::Compressed(descriptor) => CowSource::Compressed(descriptor),
            Self::Shared { host } => CowSource::Host(host),
        }
    }

    /// The cluster that is already reserved for this guest cluster alone, if there is one.
    #[must_use]
    pub const fn reserved(self) -> Option<HostOffset> {
        match self {
            Self::ZeroAllocated { host, owned: true } | Self::Subclusters { host } => Some(host),
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
            Self::Subclusters { .. } => "normal: some of the written subclusters hold no data yet",
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
            Self::Image => f.write_str("the image itself"),
        }
    }
}
