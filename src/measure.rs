//! How large a file a new image needs: empty or full, or for the data of another image.
//!
//! The sum counts what a new image of this layout consists of when every cluster of the disk is
//! allocated, and takes off the clusters that hold no data. Metadata is always counted for the full
//! disk, so the answer is an upper limit.

use std::fmt;

use chain::{Chain, Format};
use cow_engine::Preallocation;
use qcow2_format::{ClusterBits, RefcountOrder, Version, limit};

use crate::create::{CreateError, CreateOptions};
use crate::info::{self, BitmapInfo, InfoError};
use crate::map::map;

/// Sectors are the granularity of every virtual disk.
const SECTOR_BYTES: u64 = 512;
/// Bytes of an entry of a table of offsets.
const ENTRY_BYTES: u64 = 8;
/// Bytes of an entry of the bitmap directory without its name.
const DIRECTORY_ENTRY_BYTES: u64 = 24;

/// How large a file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measurement {
    /// Bytes at most for the data that there is.
    pub required: u64,
    /// Bytes when all of the disk is written.
    pub fully_allocated: u64,
    /// Bytes for copies of the persistent bitmaps of the source, where both it and the new image
    /// can have them.
    pub bitmaps: Option<u64>,
}

/// Why nothing could be measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MeasureError {
    /// An option is not possible.
    Options(CreateError),
    /// Extended entries need larger clusters.
    SmallSubclusters {
        /// Bytes per cluster asked for.
        found: u64,
        /// Fewest bytes per cluster.
        allowed: u64,
    },
    /// The size is more than tables of the largest possible size can map.
    Size {
        /// Bytes asked for.
        found: u64,
    },
    /// The source cannot be read.
    Source(chain::Error),
    /// The source's bitmaps cannot be read.
    Info(InfoError),
}

impl fmt::Display for MeasureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::SmallSubclusters { allowed, .. } => write!(
                f,
                "Extended L2 entries are only supported with cluster sizes of at least {allowed} bytes"
            ),
            Self::Size { .. } => {
                f.write_str("The image size is too large (try using a larger cluster size)")
            }
            Self::Source(error) => error.fmt(f),
            Self::Info(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MeasureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Options(error) => Some(error),
            Self::Source(error) => Some(error),
            Self::Info(error) => Some(error),
            Self::SmallSubclusters { .. } | Self::Size { .. } => None,
        }
    }
}

/// Measures a new image: empty, or with the content of `source`, whose size then counts instead of
/// that of the options. Nothing is made.
///
/// # Errors
/// An option is not possible, or the allocation of the source cannot be read.
pub fn measure(
    options: &CreateOptions,
    source: Option<&Chain>,
) -> Result<Measurement, MeasureError> {
    let asked = source.map_or(options.virtual_size, Chain::virtual_size);
    let size = asked.checked_next_multiple_of(SECTOR_BYTES);
    let size = size.ok_or(MeasureError::Size { found: asked })?;
    if options.format == Format::Raw {
        return Ok(Measurement { required: size, fully_allocated: size, bitmaps: None });
    }
    let layout = Layout::new(options)?;
    let too_large = MeasureError::Size { found: size };
    let disk = size.checked_next_multiple_of(layout.cluster).ok_or(too_large)?;
    let fully_allocated = layout.metadata(disk)?.saturating_add(disk);
    let data = match source {
        _ if matches!(options.preallocation, Preallocation::Falloc | Preallocation::Full) => disk,
        // Nobody knows how much of the source the backing file will have.
        Some(_) if options.qcow2.backing.is_some() => disk,
        Some(source) => data_bytes(source, layout.cluster).map_err(MeasureError::Source)?,
        None => 0,
    };
    let bitmaps = match source {
        Some(source) if options.qcow2.version == Version::V3 => bitmap_bytes(source, &layout)?,
        _ => None,
    };
    let required = fully_allocated.saturating_sub(disk).saturating_add(data);
    Ok(Measurement { required, fully_allocated, bitmaps })
}

/// What decides how much metadata there is.
struct Layout {
    /// Bytes per cluster.
    cluster: u64,
    /// Bytes per L2 entry.
    entry: u64,
    /// Counts in a refcount block.
    counts: u64,
}

impl Layout {
    fn new(options: &CreateOptions) -> Result<Self, MeasureError> {
        let qcow2 = &options.qcow2;
        let (cluster, bits) = (qcow2.cluster_size, qcow2.refcount_bits);
        if !cluster.is_power_of_two() || ClusterBits::new(cluster.trailing_zeros()).is_err() {
            return Err(MeasureError::Options(CreateError::ClusterSize { found: cluster }));
        }
        if !bits.is_power_of_two() || RefcountOrder::new(bits.trailing_zeros()).is_err() {
            return Err(MeasureError::Options(CreateError::RefcountBits { found: bits }));
        }
        let allowed = 32 * SECTOR_BYTES;
        if qcow2.extended_l2 && cluster < allowed {
            return Err(MeasureError::SmallSubclusters { found: cluster, allowed });
        }
        let entry = if qcow2.extended_l2 { 2 * ENTRY_BYTES } else { ENTRY_BYTES };
        Ok(Self { cluster, entry, counts: cluster * 8 / bits })
    }

    /// Bytes of everything but data, for a disk of `disk` bytes, all of it allocated.
    fn metadata(&self, disk: u64) -> Result<u64, MeasureError> {
        let tables = (disk / self.cluster).div_ceil(self.cluster / self.entry);
        let l1_bytes = tables * ENTRY_BYTES; // at most an eighth of the disk
        if l1_bytes > limit::L1_TABLE_BYTES_MAX {
            return Err(MeasureError::Size { found: disk });
        }
        // Header, L2 tables, L1 table.
        let clusters = 1 + tables + l1_bytes.div_ceil(self.cluster);
        let counted = clusters.saturating_add(disk / self.cluster);
        Ok((clusters + self.refcount_clusters(counted)) * self.cluster)
    }

    /// Clusters of refcount blocks and of their table that count `clusters` and themselves.
    fn refcount_clusters(&self, clusters: u64) -> u64 {
        let mut own = 0;
        loop {
            let blocks = clusters.saturating_add(own).div_ceil(self.counts);
            let next = blocks + blocks.div_ceil(self.cluster / ENTRY_BYTES);
            if next == own {
                return own;
            }
            own = next;
        }
    }
}

/// Bytes of the clusters of the new image that hold data of the source.
fn data_bytes(source: &Chain, cluster: u64) -> Result<u64, chain::Error> {
    let mut counted = 0; // everything before this offset
    let mut bytes = 0;
    for extent in map(source, 0..source.virtual_size()) {
        let extent = extent?;
        if !extent.status.data || extent.status.zero {
            continue;
        }
        let start = extent.start.max(counted) / cluster * cluster;
        let end = extent.start.saturating_add(extent.status.len);
        let end = end.checked_next_multiple_of(cluster).unwrap_or(end);
        let start = start.max(counted);
        bytes += end.saturating_sub(start);
        counted = counted.max(end);
    }
    Ok(bytes)
}

/// Bytes of the bitmaps of the source in a new image; `None` for sources that can have none.
fn bitmap_bytes(source: &Chain, layout: &Layout) -> Result<Option<u64>, MeasureError> {
    let info = info::of_top(source).map_err(MeasureError::Info)?;
    let Some(qcow2) = info.qcow2.filter(|qcow2| qcow2.version > 2) else { return Ok(None) };
    let whole = |bytes: u64| bytes.div_ceil(layout.cluster).saturating_mul(layout.cluster);
    // One that was not saved cleanly is not copied.
    let copied: Vec<&BitmapInfo> = qcow2.bitmaps.iter().filter(|bitmap| !bitmap.in_use).collect();
    let mut total = 0_u64;
    let mut directory = 0_u64;
    for bitmap in copied {
        let data = whole(info.virtual_size.div_ceil(bitmap.granularity).div_ceil(8));
        let table = whole(data / layout.cluster * ENTRY_BYTES);
        total = total.saturating_add(data).saturating_add(table);
        let entry = DIRECTORY_ENTRY_BYTES + bitmap.name.len() as u64;
        directory += entry.next_multiple_of(8);
    }
    Ok(Some(total.saturating_add(whole(directory))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(size: u64) -> CreateOptions {
        CreateOptions::new(Format::Qcow2, size)
    }

    fn sizes(options: &CreateOptions) -> (u64, u64) {
        let measured = measure(options, None).unwrap();
        (measured.required, measured.fully_allocated)
    }

    #[test]
    fn the_known_sums() {
        assert_eq!(sizes(&qcow2(1 << 30)), (393_216, 1_074_135_040));
        assert_eq!(sizes(&qcow2(0)), (196_608, 196_608));
        assert_eq!(sizes(&qcow2(1000)), (327_680, 393_216));
        assert_eq!(sizes(&CreateOptions::new(Format::Raw, 1000)), (1024, 1024));
        let full = CreateOptions { preallocation: Preallocation::Full, ..qcow2(1 << 30) };
        assert_eq!(sizes(&full), (1_074_135_040, 1_074_135_040));
    }

    #[test]
    fn what_no_table_can_map_is_refused() {
        let refused = measure(&qcow2(64 << 50), None).unwrap_err();
        assert!(matches!(refused, MeasureError::Size { .. }), "{refused:?}");
        let mut small = qcow2(1 << 20);
        small.qcow2.extended_l2 = true;
        small.qcow2.cluster_size = 4096;
        assert!(matches!(measure(&small, None), Err(MeasureError::SmallSubclusters { .. })));
        small.qcow2.cluster_size = 100;
        assert!(matches!(measure(&small, None), Err(MeasureError::Options(_))));
    }
}
