//! Consistency check and repair of one image, with the counts and words of `qemu-img check`.
//!
//! It works on the storage itself, not through the engine: an image that cannot be opened for
//! use can still be checked, and nothing is written unless a repair is asked for.
//!
//! Every reference to a host cluster is counted (header, tables, data, snapshots, bitmaps, key
//! slots, refcount blocks) and compared with the count that is stored; then the COPIED flags
//! of the active tables are compared with the stored counts. L2 tables are read in parallel, in
//! whatever rayon pool the caller is in; the report is the same for any number of threads.
//!
//! Memory: about two bytes per host cluster of the file, wherever something is stored or counted
//! (see [`CLUSTERS_MAX`] for the most), plus the L1 tables and 48 bytes for each L2 table.

mod bitmaps;
mod compare;
mod copied;
mod dirty;
mod error;
mod finding;
mod image;
mod l2_table;
mod pass;
mod rebuild;
mod references;
mod snapshots;
mod stored;
mod tally;
mod trees;

use block_io::Storage;

pub use dirty::{DirtyError, on_open as repair_on_open, repair_dirty};
pub use error::CheckError;
pub use finding::{Finding, FindingKind, Severity};
pub use image::CLUSTERS_MAX;
pub use tally::FINDINGS_MAX;

/// What to repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Nothing: the image is only read.
    #[default]
    None,
    /// Counts that are too high: lost space, no danger. Wrong COPIED flags too, if nothing else
    /// is wrong.
    Leaks,
    /// Whatever can be repaired without losing what a guest can read.
    All,
}

/// How to check.
#[derive(Clone, Copy, Default)]
pub struct CheckOptions<'a> {
    /// What to repair.
    pub repair: Repair,
    /// Called now and then with how far the check is; from one thread at a time.
    pub progress: Option<&'a (dyn Fn(CheckProgress) + Sync)>,
}

impl std::fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckOptions").field("repair", &self.repair).finish_non_exhaustive()
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckProgress {
    /// L2 tables behind.
    pub tables_done: u64,
    /// L2 tables altogether.
    pub tables_total: u64,
}

/// What a check found. After a repair the counts are those of a second check, as in
/// `qemu-img check`, and the two `_fixed` ones tell what the first repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Errors that can lose data, those repaired left out.
    pub corruptions: u64,
    /// Clusters with a count above their references, those repaired left out.
    pub leaks: u64,
    /// Things that could not be checked.
    pub check_errors: u64,
    /// Errors repaired.
    pub corruptions_fixed: u64,
    /// Leaks repaired.
    pub leaks_fixed: u64,
    /// Guest clusters of the virtual disk.
    pub total_clusters: u64,
    /// Guest clusters with host space.
    pub allocated_clusters: u64,
    /// Allocated clusters that do not follow their predecessor in the image.
    pub fragmented_clusters: u64,
    /// Compressed guest clusters.
    pub compressed_clusters: u64,
    /// End of the last cluster in use, in bytes.
    pub image_end_offset: u64,
    /// What was found and done, in a fixed order; both checks after a repair.
    pub findings: Vec<Finding>,
    /// Findings beyond the first [`FINDINGS_MAX`], which are only counted.
    pub findings_omitted: u64,
}

/// What a report comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong, or nothing any more.
    Consistent,
    /// Some parts could not be checked.
    Incomplete,
    /// Errors remain.
    Corrupt,
    /// Only leaks remain.
    Leaks,
}

impl CheckReport {
    /// What the report comes down to.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match (self.check_errors, self.corruptions, self.leaks) {
            (0, 0, 0) => Outcome::Consistent,
            (0, 0, _) => Outcome::Leaks,
            (0, _, _) => Outcome::Corrupt,
            (_, _, _) => Outcome::Incomplete,
        }
    }
}

impl Outcome {
    /// The exit code of `qemu-img check`.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Consistent => 0,
            Self::Incomplete => 1,
            Self::Corrupt => 2,
            Self::Leaks => 3,
        }
    }
}

/// Checks a qcow2 image, and repairs it if asked to.
///
/// ```
/// use qimg::check::{CheckOptions, Outcome, Repair, check};
/// use qimg::format::{ClusterBits, Geometry, HeaderBuilder, HostOffset, TablePointer};
/// use qimg::format::{L2Layout, RefcountOrder};
/// use qimg::io::{MemoryStorage, Storage};
///
/// // A header and an empty refcount table: as if the counts had never been written.
/// let geometry = Geometry::new(ClusterBits::DEFAULT, RefcountOrder::DEFAULT, L2Layout::Standard)?;
/// let header = HeaderBuilder::new(geometry, 1 << 20)
///     .refcount_table(TablePointer { offset: HostOffset::new(0x10000), count: 1 })
///     .l1_table(TablePointer { offset: HostOffset::new(0x20000), count: 1 })
///     .build()?;
/// let storage = MemoryStorage::from(&header.encode()[..]);
/// storage.set_len(0x30000)?;
///
/// let report = check(&storage, CheckOptions::default())?;
/// assert_eq!(report.outcome(), Outcome::Corrupt);
/// assert_eq!(report.findings[0].to_string(), "ERROR cluster 0 refcount=0 reference=1");
///
/// let report = check(&storage, CheckOptions { repair: Repair::All, ..CheckOptions::default() })?;
/// assert_eq!((report.outcome(), report.corruptions_fixed), (Outcome::Consistent, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The caller holds the locks. A repair is safe against a power cut at any moment: counts rise
/// before flags change, and a rebuilt refcount structure becomes valid by one write of the header.
///
/// # Errors
/// The image is not qcow2 or its header is broken, a table that must be read cannot be, a limit
/// is exceeded, or storage fails. [`CheckError::RebuildNeeded`] carries what was found.
pub fn check(storage: &dyn Storage, options: CheckOptions<'_>) -> Result<CheckReport, CheckError> {
    let first = pass::run(storage, options)?;
    let (leaks_fixed, corruptions_fixed) = (first.leaks_fixed, first.corruptions_fixed);
    if leaks_fixed == 0 && corruptions_fixed == 0 {
        return Ok(first);
    }
    let second = pass::run(storage, options)?;
    let mut findings = first.findings;
    let room = FINDINGS_MAX.saturating_sub(findings.len());
    let omitted = second.findings.len().saturating_sub(room) as u64;
    findings.extend(second.findings.into_iter().take(room));
    let findings_omitted = first.findings_omitted + second.findings_omitted + omitted;
    Ok(CheckReport { leaks_fixed, corruptions_fixed, findings, findings_omitted, ..second })
}
