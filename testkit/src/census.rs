//! An independent census: walks the tables of an image, sharing no code with what it judges, counts
//! who refers to which cluster, and compares with the refcounts on disk.
//!
//! It knows versions 2 and 3, counts of every width, extended L2 entries, external data files and
//! internal snapshots; no persistent bitmaps.

mod source;
mod tally;
mod walk;

use source::Source;
use walk::Walk;

/// What is wrong with an image.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// The tables contradict themselves, whatever the counts say: two structures on one cluster,
    /// an entry that means nothing.
    pub nonsense: Vec<String>,
    /// A count is lower than the references, or a flag lies: data will be lost, unless the image
    /// says that it must be repaired first.
    pub losses: Vec<String>,
    /// References that are counted and not there.
    pub leaks: u64,
    /// The image says that its counts may be too low.
    pub dirty: bool,
}

impl Census {
    /// What makes this the census of an image that loses data, if anything does: counts may only be
    /// too low when the image says so itself.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        match (self.nonsense.is_empty(), self.losses.is_empty() || self.dirty) {
            (true, true) => None,
            (false, _) => Some(format!("CE-2: {:?}", self.nonsense)),
            (true, false) => Some(format!("CE-2, RC-1: {:?}", self.losses)),
        }
    }
}

/// Takes the census of an image: its bytes, or the object that holds them.
#[must_use]
pub fn take<S: Source + ?Sized>(image: &S) -> Census {
    Walk::over(image).census()
}

/// The census finds no loss; leaks are returned.
///
/// # Panics
/// It finds one.
#[track_caller]
pub fn assert_no_loss<S: Source + ?Sized>(image: &S) -> u64 {
    let census = take(image);
    assert!(census.nonsense.is_empty(), "{:#?}", census.nonsense);
    assert!(census.losses.is_empty(), "dirty {}: {:#?}", census.dirty, census.losses);
    census.leaks
}

/// The census finds nothing at all.
///
/// # Panics
/// It finds something.
#[track_caller]
pub fn assert_clean<S: Source + ?Sized>(image: &S) {
    assert_eq!(assert_no_loss(image), 0, "clusters leak");
}
