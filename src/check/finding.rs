//! One thing that a check found or did, in the words of `qemu-img check`.

use std::fmt;

/// How bad a finding is, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Can lose data.
    Error,
    /// Wastes space.
    Leak,
    /// Was wrong and is repaired.
    Repaired,
    /// Could not be checked.
    Unchecked,
    /// Says what is being done.
    Notice,
}

/// One thing that a check found or did. `Display` gives the line that `qemu-img check` prints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: FindingKind,
}

/// What a finding is about. Offsets are host bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// An L1 entry has bits set that must be zero.
    L1ReservedBits {
        /// The entry.
        entry: u64,
    },
    /// An L1 entry points at no cluster boundary.
    L2TableUnaligned {
        /// Where it points.
        offset: u64,
    },
    /// An L2 entry has bits set that must be zero.
    L2ReservedBits {
        /// The entry.
        entry: u64,
    },
    /// A data cluster does not start at a cluster boundary.
    DataUnaligned {
        /// Where it starts.
        offset: u64,
    },
    /// A cluster that only reserves space does not start at a cluster boundary.
    PreallocatedUnaligned {
        /// Where it starts.
        offset: u64,
    },
    /// Subclusters are both allocated and zero.
    SubclusterBitmap {
        /// Where the cluster starts.
        offset: u64,
    },
    /// Subclusters are allocated in a cluster that is not.
    UnallocatedWithSubclusters,
    /// A compressed cluster has the COPIED flag.
    CompressedCopied {
        /// Where the compressed bytes start.
        offset: u64,
    },
    /// A compressed cluster has a subcluster bitmap.
    CompressedWithSubclusters {
        /// Index of the entry in its L2 table.
        index: u64,
        /// The entry.
        entry: u64,
    },
    /// A compressed cluster in an image whose data lies in another file.
    CompressedWithDataFile {
        /// Index of the entry in its L2 table.
        index: u64,
        /// The entry.
        entry: u64,
    },
    /// A reference reaches a cluster or more beyond the end of the file; it is not counted.
    BeyondEnd {
        /// Where the referenced region starts.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A cluster has more references than its count can say.
    Overflow {
        /// The cluster's offset.
        offset: u64,
    },
    /// A snapshot's L1 table does not start at a cluster boundary.
    SnapshotL1Unaligned {
        /// Id of the snapshot.
        id: String,
        /// Its name.
        name: String,
        /// Where the table starts.
        offset: u64,
    },
    /// A snapshot's L1 table is too large.
    SnapshotL1TooLarge {
        /// Id of the snapshot.
        id: String,
        /// Its name.
        name: String,
        /// Entries of the table.
        entries: u32,
    },
    /// A snapshot table entry lacks data that version 3 requires.
    SnapshotIncomplete {
        /// Index of the entry.
        index: u64,
    },
    /// An image with an external data file has internal snapshots.
    SnapshotsWithDataFile,
    /// A table entry of a bitmap means nothing.
    BitmapTableEntry {
        /// Name of the bitmap.
        name: String,
        /// The entry.
        entry: u64,
    },
    /// A refcount table entry has bits set that must be zero.
    RefcountTableReservedBits {
        /// Index of the entry.
        index: u64,
    },
    /// A refcount table entry points at no cluster boundary.
    RefcountBlockUnaligned {
        /// Index of the entry.
        index: u64,
    },
    /// A refcount table entry points behind the end of the file.
    RefcountBlockOutside {
        /// Index of the entry.
        index: u64,
    },
    /// A refcount block is not referenced exactly once.
    RefcountBlockShared {
        /// Index of the entry.
        index: u64,
        /// References found.
        references: u64,
    },
    /// The count of a cluster cannot be read.
    CountUnreadable {
        /// The cluster.
        cluster: u64,
    },
    /// The count of a cluster is not the number of its references.
    Count {
        /// The cluster.
        cluster: u64,
        /// The count that is stored.
        stored: u64,
        /// The references found.
        references: u64,
    },
    /// The COPIED flag of an L1 entry is wrong.
    CopiedL1 {
        /// Index of the entry.
        index: u64,
        /// The entry.
        entry: u64,
        /// The stored count of the L2 table.
        count: u64,
    },
    /// The COPIED flag of an L2 entry is wrong.
    CopiedL2 {
        /// The entry.
        entry: u64,
        /// The stored count of the data cluster.
        count: u64,
    },
    /// The refcount structure is made anew.
    Rebuilding,
}

impl Finding {
    /// An error.
    pub(super) const fn error(kind: FindingKind) -> Self {
        Self { severity: Severity::Error, kind }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FindingKind::UnallocatedWithSubclusters
            | FindingKind::CompressedCopied { .. }
            | FindingKind::BeyondEnd { .. }
            | FindingKind::Overflow { .. } => write!(f, "ERROR: {}", self.kind),
            FindingKind::CountUnreadable { .. } | FindingKind::Rebuilding => self.kind.fmt(f),
            kind => {
                f.write_str(match self.severity {
                    Severity::Repaired => "Repairing ",
                    Severity::Leak => "Leaked ",
                    _ => "ERROR ",
                })?;
                kind.fmt(f)
            }
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L1ReservedBits { .. }
            | Self::L2TableUnaligned { .. }
            | Self::L2ReservedBits { .. }
            | Self::DataUnaligned { .. }
            | Self::PreallocatedUnaligned { .. }
            | Self::SubclusterBitmap { .. }
            | Self::UnallocatedWithSubclusters
            | Self::CompressedCopied { .. }
            | Self::CompressedWithSubclusters { .. }
            | Self::CompressedWithDataFile { .. } => self.write_entry(f),
            Self::SnapshotL1Unaligned { .. }
            | Self::SnapshotL1TooLarge { .. }
            | Self::SnapshotIncomplete { .. }
            | Self::SnapshotsWithDataFile
            | Self::BitmapTableEntry { .. } => self.write_extra(f),
            _ => self.write_count(f),
        }
    }
}

impl FindingKind {
    /// Entries of L1 and L2 tables.
    fn write_entry(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L1ReservedBits { entry } => {
                write!(f, "found L1 entry with reserved bits set: {entry:x}")
            }
            Self::L2TableUnaligned { offset } => {
                write!(f, "l2_offset={offset:x}: Table is not cluster aligned; L1 entry corrupted")
            }
            Self::L2ReservedBits { entry } => {
                write!(f, "found l2 entry with reserved bits set: {entry:x}")
            }
            Self::DataUnaligned { offset } => write!(
                f,
                "offset={offset:x}: Data cluster is not properly aligned; L2 entry corrupted."
            ),
            Self::PreallocatedUnaligned { offset } => write!(
                f,
                "offset={offset:x}: Preallocated cluster is not properly aligned; L2 entry \
                 corrupted."
            ),
            Self::SubclusterBitmap { offset } => write!(
                f,
                "offset={offset:x}: Allocated cluster has corrupted subcluster allocation bitmap"
            ),
            Self::UnallocatedWithSubclusters => {
                f.write_str("Unallocated cluster has non-zero subcluster allocation map")
            }
            Self::CompressedCopied { offset } => {
                let must = "copied flag must never be set for compressed clusters";
                write!(f, "coffset={offset:#x}: {must}")
            }
            Self::CompressedWithSubclusters { index, entry } => write!(
                f,
                "compressed cluster {index} with non-zero subcluster allocation bitmap, \
                 entry={entry:#x}"
            ),
            Self::CompressedWithDataFile { index, entry } => {
                write!(f, "compressed cluster {index} with data file, entry={entry:#x}")
            }
            _ => Ok(()),
        }
    }

    /// Snapshots and bitmaps.
    fn write_extra(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotL1Unaligned { id, name, offset } => write!(
                f,
                "snapshot {id} ({name}) l1_offset={offset:#x}: L1 table is not cluster aligned; \
                 snapshot table entry corrupted"
            ),
            Self::SnapshotL1TooLarge { id, name, entries } => write!(
                f,
                "snapshot {id} ({name}) l1_size={entries:#x}: L1 table is too large; snapshot \
                 table entry corrupted"
            ),
            Self::SnapshotIncomplete { index } => {
                write!(f, "snapshot table entry {index} is incomplete")
            }
            Self::SnapshotsWithDataFile => {
                f.write_str("data file together with internal snapshots")
            }
            Self::BitmapTableEntry { name, entry } => {
                write!(f, "bitmap {name} has a table entry {entry:#x} that means nothing")
            }
            _ => Ok(()),
        }
    }

    /// Counts, and the structure that stores them.
    fn write_count(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondEnd { offset, bytes } => write!(
                f,
                "counting reference for region exceeding the end of the file by one cluster or \
                 more: offset {offset:#x} size {bytes:#x}"
            ),
            Self::Overflow { offset } => write!(
                f,
                "overflow cluster offset={offset:#x}\nUse qemu-img amend to increase the \
                 refcount entry width or qemu-img convert to create a clean copy if the image \
                 cannot be opened for writing"
            ),
            Self::RefcountTableReservedBits { index } => {
                write!(f, "refcount table entry {index} has reserved bits set")
            }
            Self::RefcountBlockUnaligned { index } => write!(
                f,
                "refcount block {index} is not cluster aligned; refcount table entry corrupted"
            ),
            Self::RefcountBlockOutside { index } => {
                write!(f, "refcount block {index} is outside image")
            }
            Self::RefcountBlockShared { index, references } => {
                write!(f, "refcount block {index} refcount={references}")
            }
            Self::CountUnreadable { cluster } => {
                write!(f, "Can't get refcount for cluster {cluster}: Input/output error")
            }
            Self::Count { cluster, stored, references } => {
                write!(f, "cluster {cluster} refcount={stored} reference={references}")
            }
            Self::CopiedL1 { index, entry, count } => write!(
                f,
                "OFLAG_COPIED L2 cluster: l1_index={index} l1_entry={entry:x} refcount={count}"
            ),
            Self::CopiedL2 { entry, count } => {
                write!(f, "OFLAG_COPIED data cluster: l2_entry={entry:x} refcount={count}")
            }
            Self::Rebuilding => f.write_str("Rebuilding refcount structure"),
            _ => Ok(()),
        }
    }
}
