//! `WritePlan`: which bytes go where, which old bytes are copied around them, and which L2 entries
//! are published afterwards.

use core::fmt;

use cluster_map::{CowSource, EntryChange, NewClusterReason};
use qcow2_format::{GuestOffset, HostOffset};
use smallvec::SmallVec;

/// What a write is going to do, in guest order.
///
/// The order of effects is fixed: everything the runs name is written first (guest data, then
/// what `cow_start` and `cow_end` copy), the entries are published last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritePlan {
    pub(crate) guest: GuestOffset,
    pub(crate) len: u64,
    pub(crate) runs: SmallVec<[WriteRun; 2]>,
}

/// Neighbouring guest bytes that are written in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteRun {
    /// Into clusters this image owns already; no entry changes.
    InPlace(InPlaceRun),
    /// Into clusters that get a new entry. Boxed, so that plans of overwrites, the common ones,
    /// stay small.
    Allocate(Box<AllocateRun>),
}

/// A write into clusters that are normal and COPIED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InPlaceRun {
    /// First guest byte.
    pub guest: GuestOffset,
    /// Where it goes.
    pub host: HostOffset,
    /// Number of bytes.
    pub len: u64,
}

/// A write into newly allocated (or reserved) neighbouring host clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocateRun {
    pub(crate) guest: GuestOffset,
    pub(crate) host: HostOffset,
    pub(crate) len: u64,
    pub(crate) cow_start: Option<CowRange>,
    pub(crate) cow_end: Option<CowRange>,
    pub(crate) fresh: bool,
    pub(crate) clusters: SmallVec<[NewCluster; 2]>,
}

/// Old bytes that a new cluster needs beside the ones that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CowRange {
    /// First guest byte. The range may reach past the end of the disk in the last cluster; bytes
    /// there are zeros.
    pub guest: GuestOffset,
    /// Where it goes.
    pub host: HostOffset,
    /// Number of bytes, less than a cluster.
    pub len: u64,
    /// Where the old bytes come from.
    pub source: CowSource,
}

/// A guest cluster that gets a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// Why it needs one.
    pub reason: NewClusterReason,
    /// The entry to publish.
    pub change: EntryChange,
}

impl WritePlan {
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

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs: no gap, no overlap.
    #[must_use]
    pub fn runs(&self) -> &[WriteRun] {
        &self.runs
    }
}

impl WriteRun {
    /// First guest byte.
    #[must_use]
    pub const fn guest(&self) -> GuestOffset {
        match self {
            Self::InPlace(run) => run.guest,
            Self::Allocate(run) => run.guest,
        }
    }

    /// Where that byte goes.
    #[must_use]
    pub const fn host(&self) -> HostOffset {
        match self {
            Self::InPlace(run) => run.host,
            Self::Allocate(run) => run.host,
        }
    }

    /// Number of guest bytes, old bytes around them not counted.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Self::InPlace(run) => run.len,
            Self::Allocate(run) => run.len,
        }
    }

    /// Never: a run has at least one byte. Here for completeness beside `len`.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AllocateRun {
    /// First guest byte that is written (old bytes around it not counted).
    #[must_use]
    pub const fn guest(&self) -> GuestOffset {
        self.guest
    }

    /// Where that byte goes.
    #[must_use]
    pub const fn host(&self) -> HostOffset {
        self.host
    }

    /// Number of guest bytes that are written.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Never: a run has at least one byte. Here for completeness beside `len`.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Old bytes before the guest data, down to the start of the cluster.
    #[must_use]
    pub const fn cow_start(&self) -> Option<CowRange> {
        self.cow_start
    }

    /// Old bytes after the guest data, up to the end of the cluster.
    #[must_use]
    pub const fn cow_end(&self) -> Option<CowRange> {
        self.cow_end
    }

    /// Whether the host clusters were never written: zeros around the data need no write.
    #[must_use]
    pub const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The guest clusters and the entries they get.
    #[must_use]
    pub fn clusters(&self) -> &[NewCluster] {
        &self.clusters
    }
}

impl fmt::Display for WritePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write guest {}+{:#x}", self.guest, self.len)?;
        for run in &self.runs {
            match run {
                WriteRun::InPlace(run) => write!(
                    f,
                    "\n  in place  guest {}+{:#x} -> host {}",
                    run.guest, run.len, run.host
                )?,
                WriteRun::Allocate(run) => run.render(f)?,
            }
        }
        Ok(())
    }
}

impl AllocateRun {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fresh = if self.fresh { " (fresh)" } else { "" };
        let count = self.clusters.len();
        let noun = if count == 1 { "cluster" } else { "clusters" };
        write!(f, "\n  allocate  {count} {noun}{fresh}")?;
        write!(f, "\n    data      guest {}+{:#x} -> host {}", self.guest, self.len, self.host)?;
        for (name, range) in [("cow_start", self.cow_start), ("cow_end  ", self.cow_end)] {
            if let Some(CowRange { guest, host, len, source }) = range {
                write!(f, "\n    {name} guest {guest}+{len:#x} -> host {host} from {source}")?;
            }
        }
        for cluster in &self.clusters {
            write!(f, "\n    publish   {} ({})", cluster.change, cluster.reason.explanation())?;
        }
        Ok(())
    }
}
