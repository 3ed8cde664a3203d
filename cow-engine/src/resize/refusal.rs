//! Why a disk is not given a size: reasons that lie in the request and the format, not in the host.

use core::fmt;

use qcow2_format::{Header, Version, limit};

use super::ResizeOptions;
use crate::preallocation::Preallocation;

/// Why a disk is not given a size. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResizeRefusal {
    /// The size is no multiple of a sector.
    Unaligned {
        /// Bytes asked for.
        found: u64,
    },
    /// The L1 table would exceed its limit.
    TooLarge {
        /// Bytes asked for.
        found: u64,
        /// The largest disk with this cluster size, in bytes.
        allowed: u64,
    },
    /// The size is smaller, and nobody said that data may be deleted.
    Shrink {
        /// Bytes asked for.
        found: u64,
        /// Present size in bytes.
        present: u64,
    },
    /// Preallocation without new area.
    NothingToPreallocate {
        /// What was asked for.
        found: Preallocation,
    },
    /// A version 2 image has internal snapshots, which do not remember their size there.
    Snapshots {
        /// How many.
        count: u32,
    },
    /// The image has a backing file that was not opened: nobody knows what it has below new area.
    UnknownBacking,
    /// A version 2 image has no way to say that new clusters hide what lies below them.
    LongerBacking {
        /// Present size of the disk in bytes.
        present: u64,
        /// Size of the backing file's disk in bytes.
        backing: u64,
    },
}

/// Refuses what can be judged by the header alone.
pub(super) fn check_request(
    header: &Header,
    size: u64,
    options: ResizeOptions,
) -> Result<(), ResizeRefusal> {
    let present = header.virtual_size();
    if size <= present && options.preallocation != Preallocation::Off {
        return Err(ResizeRefusal::NothingToPreallocate { found: options.preallocation });
    }
    if size < present && !options.shrink {
        return Err(ResizeRefusal::Shrink { found: size, present });
    }
    if !size.is_multiple_of(limit::SECTOR_BYTES) {
        return Err(ResizeRefusal::Unaligned { found: size });
    }
    if header.version() == Version::V2 && header.snapshot_count() != 0 {
        return Err(ResizeRefusal::Snapshots { count: header.snapshot_count() });
    }
    let allowed = header.geometry().virtual_size_max();
    if size > allowed {
        return Err(ResizeRefusal::TooLarge { found: size, allowed });
    }
    Ok(())
}

impl core::error::Error for ResizeRefusal {}

impl fmt::Display for ResizeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned { found } => {
                write!(f, "new size is {found} bytes, allowed is a multiple of 512")
            }
            Self::TooLarge { found, allowed } => write!(
                f,
                "new size is {found} bytes, allowed are at most {allowed} with this cluster size"
            ),
            Self::Shrink { found, present } => write!(
                f,
                "new size of {found} bytes is smaller than {present}, and shrinking was not asked for"
            ),
            Self::NothingToPreallocate { found } => {
                write!(f, "preallocation is {found} though the disk does not grow, allowed is off")
            }
            Self::Snapshots { count } => {
                write!(f, "version 2 image with {count} internal snapshots cannot be resized")
            }
            Self::UnknownBacking => f.write_str(
                "backing file was not opened, and nobody knows what it has below the new area",
            ),
            Self::LongerBacking { present, backing } => write!(
                f,
                "version 2 image cannot grow from {present} bytes over a backing file of {backing}: \
                 nothing could hide what lies there"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use qcow2_format::{ClusterBits, Geometry, HeaderBuilder, HostOffset, L2Layout};
    use qcow2_format::{RefcountOrder, TablePointer};

    use super::*;

    fn header(version: Version, snapshots: u32) -> Header {
        let bits = ClusterBits::new(9).unwrap();
        let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap();
        let at = |offset, count| TablePointer { offset: HostOffset::new(offset), count };
        HeaderBuilder::new(geometry, 1 << 20)
            .version(version)
            .refcount_table(at(512, 1))
            .l1_table(at(1024, 32))
            .build()
            .unwrap()
            .with_snapshot_table(at(2048, snapshots))
            .unwrap()
    }

    #[test]
    fn requests_are_judged_in_the_order_of_the_reference_implementation() {
        let (off, shrink) = (ResizeOptions::new(), ResizeOptions::new().shrink(true));
        let ahead = shrink.preallocation(Preallocation::Metadata);
        let check = |version, snapshots, size, options| {
            check_request(&header(version, snapshots), size, options)
                .map_err(|refusal| refusal.to_string())
        };
        let text = |version, snapshots, size, options| {
            check(version, snapshots, size, options).unwrap_err()
        };
        assert_eq!(check(Version::V3, 1, 2 << 20, off), Ok(()));
        assert_eq!(check(Version::V3, 1, 1 << 20, off), Ok(()));
        assert_eq!(check(Version::V2, 0, 512, shrink), Ok(()));
        insta::assert_snapshot!(text(Version::V3, 0, 1000, ahead), @"preallocation is metadata though the disk does not grow, allowed is off");
        insta::assert_snapshot!(text(Version::V3, 0, 1000, off), @"new size of 1000 bytes is smaller than 1048576, and shrinking was not asked for");
        insta::assert_snapshot!(text(Version::V3, 0, 1000, shrink), @"new size is 1000 bytes, allowed is a multiple of 512");
        insta::assert_snapshot!(text(Version::V2, 3, 2 << 20, off), @"version 2 image with 3 internal snapshots cannot be resized");
        insta::assert_snapshot!(text(Version::V3, 0, (128 << 30) + 512, off), @"new size is 137438953984 bytes, allowed are at most 137438953472 with this cluster size");
    }
}
