//! Subclusters: what an extended L2 entry says about each 32nd of its cluster.
//!
//! The bitmap has two bits for each of the 32 subclusters, "allocated" and "reads as zeros". Not
//! every combination means something, and one that does not spoils the whole entry: nobody can
//! tell which of its bits to trust.

use core::fmt;
use core::ops::Range;

use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset, L2Bitmap};

use crate::cluster_type::ClusterType;
use crate::dialect::Dialect;
use crate::error::{Error, Fault};
use crate::mapping::Mapping;

/// What a subcluster is, by its extended L2 entry. Host offsets are those of the subcluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubclusterType {
    /// Nothing here: the backing file answers, or zeros without one.
    UnallocatedPlain,
    /// Nothing here either, but host space is reserved: preallocated and transparent.
    UnallocatedAllocated {
        /// The reserved space.
        host: HostOffset,
    },
    /// Reads as zeros, hides the backing file, owns no host space.
    ZeroPlain,
    /// Reads as zeros, hides the backing file, keeps host space reserved.
    ZeroAllocated {
        /// The reserved space.
        host: HostOffset,
    },
    /// Data at a host offset.
    Normal {
        /// Start of the data.
        host: HostOffset,
    },
    /// Part of a cluster that is compressed as a whole.
    Compressed(CompressedDescriptor),
}

/// Neighbouring subclusters of one cluster that are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubclusterRun {
    /// Index of the first subcluster, 0..32.
    pub first: u32,
    /// Number of subclusters, never 0.
    pub count: u32,
    /// Type of the first; data of the others follows at consecutive host offsets.
    pub kind: SubclusterType,
}

/// An extended L2 entry that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subclusters {
    dialect: Dialect,
    cluster: ClusterType,
    bitmap: L2Bitmap,
}

impl Subclusters {
    /// Checks an extended entry as a whole. Bit 0 of a standard descriptor has no meaning here and
    /// is ignored; so is the bitmap of a compressed cluster, which should be empty.
    ///
    /// # Errors
    /// A subcluster is said to be both allocated and zero, or allocated without host space; or
    /// the descriptor itself means nothing.
    #[inline]
    pub fn classify(dialect: Dialect, guest: GuestOffset, mapping: Mapping) -> Result<Self, Error> {
        let Mapping { entry, bitmap } = mapping;
        // Of a compressed descriptor bit 0 is a bit of the host offset.
        let meant = if entry.is_compressed() { entry } else { entry.with_zero_flag(false) };
        let cluster = ClusterType::classify(dialect, guest, meant)?;
        let fail = |fault| Err(Error { guest, entry, fault });
        match cluster {
            ClusterType::Normal { .. } if bitmap.allocated() & bitmap.zero() != 0 => {
                fail(Fault::AllocatedAndZero)
            }
            ClusterType::Unallocated if bitmap.allocated() != 0 => fail(Fault::AllocatedNowhere),
            _ => Ok(Self { dialect, cluster, bitmap }),
        }
    }

    /// The type of the cluster, which its subclusters refine: unallocated, normal or compressed.
    #[must_use]
    #[inline]
    pub const fn cluster(&self) -> ClusterType {
        self.cluster
    }

    /// The type of one subcluster; an `index` beyond the last means the last.
    #[must_use]
    #[inline]
    pub fn kind(&self, index: u32) -> SubclusterType {
        let index = index.min(L2Bitmap::SUBCLUSTER_COUNT.saturating_sub(1));
        let bit = 1_u32.checked_shl(index).unwrap_or(0);
        let allocated = self.bitmap.allocated() & bit != 0;
        let zero = self.bitmap.zero() & bit != 0;
        let skip = u64::from(index).saturating_mul(self.dialect.geometry().subcluster_bytes());
        match self.cluster {
            ClusterType::Compressed(descriptor) => SubclusterType::Compressed(descriptor),
            ClusterType::Normal { host } | ClusterType::ZeroAllocated { host } => {
                // Cluster offsets are below 2^56: adding less than a cluster stays in 64 bits.
                let host = host.checked_add(skip).unwrap_or(host);
                match (allocated, zero) {
                    (_, true) => SubclusterType::ZeroAllocated { host },
                    (true, false) => SubclusterType::Normal { host },
                    (false, false) => SubclusterType::UnallocatedAllocated { host },
                }
            }
            ClusterType::Unallocated | ClusterType::ZeroPlain => {
                if zero {
                    SubclusterType::ZeroPlain
                } else {
                    SubclusterType::UnallocatedPlain
                }
            }
        }
    }

    /// The run of subclusters of one kind that starts at `first`.
    #[must_use]
    #[inline]
    pub fn run_from(&self, first: u32) -> SubclusterRun {
        let first = first.min(L2Bitmap::SUBCLUSTER_COUNT.saturating_sub(1));
        let kind = self.kind(first);
        // Zeros come in from above: the run ends with the cluster.
        let count = self.like(kind).checked_shr(first).unwrap_or(0).trailing_ones();
        SubclusterRun { first, count, kind }
    }

    /// One bit for each subcluster that is of this kind.
    #[inline]
    const fn like(&self, kind: SubclusterType) -> u32 {
        let (allocated, zero) = (self.bitmap.allocated(), self.bitmap.zero());
        match kind {
            SubclusterType::Compressed(_) => u32::MAX,
            SubclusterType::ZeroPlain | SubclusterType::ZeroAllocated { .. } => zero,
            SubclusterType::Normal { .. } => allocated & !zero,
            SubclusterType::UnallocatedAllocated { .. } => !(allocated | zero),
            SubclusterType::UnallocatedPlain => !zero,
        }
    }

    /// The run of subclusters of one kind that `index` belongs to.
    #[must_use]
    pub fn run_around(&self, index: u32) -> SubclusterRun {
        let kind = self.kind(index);
        let mut first = index.min(L2Bitmap::SUBCLUSTER_COUNT.saturating_sub(1));
        while let Some(before) = first.checked_sub(1)
            && self.kind(before).is_like(kind)
        {
            first = before;
        }
        self.run_from(first)
    }

    /// All runs of the cluster, in order.
    pub fn runs(self) -> impl Iterator<Item = SubclusterRun> {
        let mut next = 0;
        core::iter::from_fn(move || {
            if next >= L2Bitmap::SUBCLUSTER_COUNT {
                return None;
            }
            let run = self.run_from(next);
            next = run.first.saturating_add(run.count);
            Some(run)
        })
    }
}

impl SubclusterType {
    /// Whether both are of one kind, wherever their bytes lie.
    #[must_use]
    pub const fn is_like(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::UnallocatedPlain, Self::UnallocatedPlain)
                | (Self::UnallocatedAllocated { .. }, Self::UnallocatedAllocated { .. })
                | (Self::ZeroPlain, Self::ZeroPlain)
                | (Self::ZeroAllocated { .. }, Self::ZeroAllocated { .. })
                | (Self::Normal { .. }, Self::Normal { .. })
                | (Self::Compressed(_), Self::Compressed(_))
        )
    }

    /// The term of the field for this type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnallocatedPlain => "unallocated-plain",
            Self::UnallocatedAllocated { .. } => "unallocated-allocated",
            Self::ZeroPlain => "zero-plain",
            Self::ZeroAllocated { .. } => "zero-allocated",
            Self::Normal { .. } => "normal",
            Self::Compressed(_) => "compressed",
        }
    }
}

/// The bitmap after data was written to these subclusters: allocated, no longer zero; the others
/// keep their state.
#[must_use]
pub fn written_bitmap(bitmap: L2Bitmap, subclusters: Range<u32>) -> L2Bitmap {
    let mask = mask(subclusters);
    L2Bitmap::from_parts(bitmap.allocated() | mask, bitmap.zero() & !mask)
}

/// The bitmap after these subclusters were zeroed by metadata: zero, no longer allocated; the
/// others keep their state.
#[must_use]
pub fn zeroed_bitmap(bitmap: L2Bitmap, subclusters: Range<u32>) -> L2Bitmap {
    let mask = mask(subclusters);
    L2Bitmap::from_parts(bitmap.allocated() & !mask, bitmap.zero() | mask)
}

/// One bit for each subcluster of a range; what lies beyond the last is ignored.
fn mask(subclusters: Range<u32>) -> u32 {
    subclusters
        .take_while(|&index| index < L2Bitmap::SUBCLUSTER_COUNT)
        .fold(0, |mask, index| mask | 1_u32.checked_shl(index).unwrap_or(0))
}

impl fmt::Display for SubclusterRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.first.saturating_add(self.count).saturating_sub(1);
        write!(f, "subclusters {}-{last} {}", self.first, self.kind.name())?;
        match self.kind {
            SubclusterType::UnallocatedAllocated { host }
            | SubclusterType::ZeroAllocated { host }
            | SubclusterType::Normal { host } => write!(f, " at host {host}"),
            _ => Ok(()),
        }
    }
}
