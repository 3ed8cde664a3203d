//! `ResizePlan`: what a resize is going to do, in the order in which it does it.

use core::fmt;

use qcow2_format::GuestOffset;

use crate::preallocation::Preallocation;

/// What a resize is going to do, in order. Each step leaves everything it did durable before the
/// next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResizePlan {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) steps: Vec<ResizeStep>,
}

/// A step of a [`ResizePlan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeStep {
    /// Whatever is mapped from here on is given up: entries become 0 first, counts fall after.
    Cut {
        /// First guest byte, at the start of a cluster.
        guest: GuestOffset,
    },
    /// A longer L1 table, written in full before the header points at it.
    MoveL1Table {
        /// Entries of the present one, which is given up.
        from: u32,
        /// Entries of the new one.
        to: u32,
    },
    /// The rest of the last cluster becomes zeros: somebody else's bytes lie there.
    ZeroTail {
        /// First guest byte behind the smaller disk.
        guest: GuestOffset,
        /// Bytes to the end of the cluster.
        len: u64,
    },
    /// Clusters get their tables, entries and host clusters ahead of the first write.
    MapAhead {
        /// First guest byte.
        guest: GuestOffset,
        /// Number of bytes.
        len: u64,
        /// What is done to the host clusters.
        how: Preallocation,
    },
    /// The external data file ends with the smaller disk. One of fixed length, such as a device,
    /// becomes zeros behind it instead.
    CutDataFile {
        /// Where it ends.
        bytes: u64,
        /// Up to where it becomes zeros if it cannot end there.
        zeros_to: u64,
    },
    /// The external data file becomes as long as the larger disk.
    ExtendDataFile {
        /// Where it ends.
        bytes: u64,
    },
    /// New clusters hide what the backing file has there.
    HideBacking {
        /// First guest byte.
        guest: GuestOffset,
        /// Number of bytes.
        len: u64,
    },
    /// The header takes over the new size: the guest sees it.
    SwitchSize {
        /// The new size in bytes.
        bytes: u64,
    },
    /// Refcount blocks that count nothing are given up, and the file ends behind the last cluster
    /// in use.
    TrimFile,
}

impl ResizePlan {
    /// Present size of the disk in bytes.
    #[must_use]
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// New size in bytes.
    #[must_use]
    pub const fn to(&self) -> u64 {
        self.to
    }

    /// The steps, in order; none when the disk has the size already.
    #[must_use]
    pub fn steps(&self) -> &[ResizeStep] {
        &self.steps
    }
}

impl fmt::Display for ResizePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resize {:#x} -> {:#x}", self.from, self.to)?;
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}

impl fmt::Display for ResizeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { guest } => write!(
                f,
                "cut everything mapped from guest {guest} on\n    \
                 entries 0, sync, counts down"
            ),
            Self::MoveL1Table { from, to } => write!(
                f,
                "move the L1 table of {from} entries to one of {to}\n    \
                 new table and counts up, sync, header 0x24+0xc, sync, old table counts down"
            ),
            Self::ZeroTail { guest, len } => write!(
                f,
                "zero the rest of the last cluster, guest {guest}+{len:#x}\n    \
                 data, sync"
            ),
            Self::MapAhead { guest, len, how } => write!(
                f,
                "map guest {guest}+{len:#x} ahead ({how})\n    \
                 clusters, tables and counts up, sync, entries, sync"
            ),
            Self::HideBacking { guest, len } => write!(
                f,
                "hide the backing file at guest {guest}+{len:#x}\n    \
                 tables and counts up, sync, entries, sync"
            ),
            Self::CutDataFile { bytes, .. } => {
                write!(f, "cut the data file behind {bytes:#x}\n    length, sync")
            }
            Self::ExtendDataFile { bytes } => {
                write!(f, "extend the data file to {bytes:#x}\n    length, sync")
            }
            Self::SwitchSize { bytes } => {
                write!(f, "switch the size to {bytes:#x}\n    header 0x18+0x8, sync")
            }
            Self::TrimFile => f.write_str(
                "trim the file behind the last cluster in use\n    \
                 refcount table entries of empty blocks 0, sync, length, sync",
            ),
        }
    }
}
