//! Entry changes: the value an entry had, the value it gets, and what happens to the old cluster.

use core::fmt;

use qcow2_format::{GuestOffset, L2Entry};

use crate::cluster_type::ClusterType;
use crate::dialect::Dialect;

/// One L2 entry that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// First guest byte the entry maps.
    pub guest: GuestOffset,
    /// The entry as it stands.
    pub old: L2Entry,
    /// The entry to publish.
    pub new: L2Entry,
}

/// What becomes of a host cluster whose guest cluster is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// The cluster stays reserved; the next write there needs no allocation.
    Keep,
    /// The cluster is given back.
    Unmap,
}

/// The entry a whole guest cluster gets when it is zeroed by metadata.
///
/// `None` when the dialect has no zero flag: version 2 must write real zeros over a backing file,
/// and may only drop the mapping where there is none.
#[must_use]
pub fn zeroed_entry(
    dialect: Dialect,
    entry: L2Entry,
    cluster: ClusterType,
    mode: ZeroMode,
) -> Option<L2Entry> {
    if !dialect.has_zero_flag() {
        return None;
    }
    let keeps = matches!(cluster, ClusterType::Normal { .. } | ClusterType::ZeroAllocated { .. });
    Some(if keeps && mode == ZeroMode::Keep {
        entry.with_zero_flag(true)
    } else {
        L2Entry::ZERO_PLAIN
    })
}

impl fmt::Display for EntryChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} {:#x} -> {:#x}", self.guest, self.old.bits(), self.new.bits())
    }
}
