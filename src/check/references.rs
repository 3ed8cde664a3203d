//! A region of the file that something points at, as clusters to count.

use super::FindingKind;
use super::image::Layout;

/// Clusters from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clusters {
    pub(super) first: u64,
    pub(super) count: u64,
}

/// The clusters that a region touches; none for an empty one.
///
/// The last cluster of a file may be there only in part, so a region may end less than a cluster
/// behind the end of the file; if it ends further behind, it is not counted at all.
pub(super) fn clusters_of(
    layout: Layout,
    offset: u64,
    bytes: u64,
) -> Result<Option<Clusters>, FindingKind> {
    if bytes == 0 {
        return Ok(None);
    }
    let end = offset.checked_add(bytes);
    let Some(end) = end.filter(|&end| end < layout.file_bytes + layout.cluster_bytes()) else {
        return Err(FindingKind::BeyondEnd { offset, bytes });
    };
    let first = offset / layout.cluster_bytes();
    let count = end.div_ceil(layout.cluster_bytes()) - first;
    Ok(Some(Clusters { first, count }))
}
