//! Runs: neighbouring guest ranges that are answered the same way, merged.

use core::fmt;

use qcow2_format::{CompressedDescriptor, GuestOffset, HostOffset};
use smallvec::SmallVec;

use crate::cluster_type::ClusterType;
use crate::subcluster::SubclusterType;

/// How a run of guest bytes is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Zeros by this image's own word; the flag says whether host space stays reserved.
    Zero {
        /// Host offset of the first reserved byte, if there is any.
        reserved: Option<HostOffset>,
    },
    /// Bytes at consecutive host offsets.
    Data {
        /// Host offset of the first byte.
        host: HostOffset,
    },
    /// Part of one compressed cluster.
    Compressed {
        /// Where the compressed bytes lie.
        descriptor: CompressedDescriptor,
        /// First wanted byte inside the decompressed cluster.
        skip: u64,
    },
    /// Ask the backing file, or zeros without one.
    Below {
        /// Host offset of the first byte, where host space is reserved although nothing was
        /// written yet (only with extended L2 entries).
        reserved: Option<HostOffset>,
    },
}

/// A run of guest bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First guest byte.
    pub guest: GuestOffset,
    /// Number of bytes, never 0.
    pub len: u64,
    /// How it is answered.
    pub kind: RunKind,
}

/// Runs in guest order without gaps. Most requests need one or two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    runs: SmallVec<[Run; 4]>,
}

impl RunKind {
    /// The answer for bytes starting `skip` into a cluster of the given type.
    #[must_use]
    #[inline]
    pub const fn of(cluster: ClusterType, skip: u64) -> Self {
        match cluster {
            ClusterType::Unallocated => Self::Below { reserved: None },
            ClusterType::ZeroPlain => Self::Zero { reserved: None },
            ClusterType::ZeroAllocated { host } => Self::Zero { reserved: host.checked_add(skip) },
            ClusterType::Normal { host } => match host.checked_add(skip) {
                Some(host) => Self::Data { host },
                // A host offset below 2^56 plus less than a cluster cannot leave 64 bits.
                None => Self::Below { reserved: None },
            },
            ClusterType::Compressed(descriptor) => Self::Compressed { descriptor, skip },
        }
    }

    /// The answer for bytes starting `skip` into a subcluster of the given type; a compressed
    /// cluster counts as a whole, from its start.
    #[must_use]
    #[inline]
    pub const fn of_subcluster(subcluster: SubclusterType, skip: u64) -> Self {
        match subcluster {
            SubclusterType::UnallocatedPlain => Self::Below { reserved: None },
            SubclusterType::UnallocatedAllocated { host } => {
                Self::Below { reserved: host.checked_add(skip) }
            }
            SubclusterType::ZeroPlain => Self::of(ClusterType::ZeroPlain, skip),
            SubclusterType::ZeroAllocated { host } => {
                Self::of(ClusterType::ZeroAllocated { host }, skip)
            }
            SubclusterType::Normal { host } => Self::of(ClusterType::Normal { host }, skip),
            SubclusterType::Compressed(descriptor) => Self::Compressed { descriptor, skip },
        }
    }

    /// Whether `next` continues this answer when it starts `len` bytes later.
    #[must_use]
    #[inline]
    pub fn continues(self, len: u64, next: Self) -> bool {
        match (self, next) {
            (Self::Below { reserved: None }, Self::Below { reserved: None })
            | (Self::Zero { reserved: None }, Self::Zero { reserved: None }) => true,
            (Self::Zero { reserved: Some(host) }, Self::Zero { reserved: Some(other) })
            | (Self::Below { reserved: Some(host) }, Self::Below { reserved: Some(other) })
            | (Self::Data { host }, Self::Data { host: other }) => {
                host.checked_add(len) == Some(other)
            }
            _ => false,
        }
    }
}

impl Runs {
    /// No runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a run, merging it with the last one where the answer continues.
    pub fn push(&mut self, run: Run) {
        if let Some(last) = self.runs.last_mut() {
            debug_assert_eq!(last.guest.checked_add(last.len), Some(run.guest), "CM-3: no gap");
            if last.kind.continues(last.len, run.kind)
                && let Some(len) = last.len.checked_add(run.len)
            {
                last.len = len;
                return;
            }
        }
        self.runs.push(run);
    }

    /// The runs.
    #[must_use]
    pub fn as_slice(&self) -> &[Run] {
        &self.runs
    }

    /// The runs, in guest order.
    pub fn iter(&self) -> core::slice::Iter<'_, Run> {
        self.runs.iter()
    }
}

impl<'a> IntoIterator for &'a Runs {
    type Item = &'a Run;
    type IntoIter = core::slice::Iter<'a, Run>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { reserved: None } => f.write_str("zero"),
            Self::Zero { reserved: Some(host) } => write!(f, "zero (reserved host {host})"),
            Self::Data { host } => write!(f, "data host {host}"),
            Self::Compressed { descriptor, skip } => write!(
                f,
                "compressed host {} {} bytes, skip {skip:#x}",
                descriptor.host_offset(),
                descriptor.readable_bytes()
            ),
            Self::Below { reserved: None } => f.write_str("below"),
            Self::Below { reserved: Some(host) } => write!(f, "below (reserved host {host})"),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {}+{:#x} {}", self.guest, self.len, self.kind)
    }
}
