//! Entry changes: the value an entry had, the value it gets, and what happens to the old cluster.

use core::fmt;

use qcow2_format::{GuestOffset, L2Bitmap};

use crate::cluster_type::ClusterType;
use crate::dialect::Dialect;
use crate::mapping::Mapping;

/// One L2 entry that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// First guest byte the entry maps.
    pub guest: GuestOffset,
    /// The entry as it stands.
    pub old: Mapping,
    /// The entry to publish.
    pub new: Mapping,
}

/// What becomes of a host cluster whose guest cluster is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroMode {
    /// The cluster stays reserved; the next write there needs no allocation.
    Keep,
    /// The cluster is given back.
    Unmap,
}

/// The entry a whole guest cluster gets when it is zeroed by metadata: the zero flag, or with
/// extended L2 entries the zero bits of all subclusters.
///
/// `None` when the dialect can say neither: version 2 must write real zeros over a backing file,
/// and may only drop the mapping where there is none.
#[must_use]
pub fn zeroed_mapping(
    dialect: Dialect,
    mapping: Mapping,
    cluster: ClusterType,
    mode: ZeroMode,
) -> Option<Mapping> {
    if !dialect.has_zero_flag() {
        return None;
    }
    let keeps = mode == ZeroMode::Keep
        && matches!(cluster, ClusterType::Normal { .. } | ClusterType::ZeroAllocated { .. });
    Some(match (keeps, dialect.has_subclusters()) {
        (false, _) => dialect.zero_plain(),
        (true, true) => Mapping::extended(mapping.entry, L2Bitmap::ALL_ZERO),
        (true, false) => Mapping::standard(mapping.entry.with_zero_flag(true)),
    })
}

impl fmt::Display for EntryChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {} {} -> {}", self.guest, self.old, self.new)
    }
}
