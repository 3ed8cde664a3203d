//! An earlier answer of `qimg hash --output=json`, read back, and what is different now.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use qimg::hash::{CONSTRUCTION, Digest, GuestHash, RangeBytes, RangeHash};
use serde::Deserialize;

use crate::failure::Failure;

/// What an earlier run said about one image.
#[derive(Debug)]
pub(super) struct Earlier {
    hash: Digest,
    virtual_size: u64,
    ranges: Option<RangeBytes>,
    /// In order, zeros left out.
    known: Vec<RangeHash>,
}

/// The members that matter here; others may be added later.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stored {
    construction: String,
    virtual_size: u64,
    hash: String,
    range_bytes: Option<u64>,
    ranges: Option<Vec<StoredRange>>,
}

#[derive(Deserialize)]
struct StoredRange {
    start: u64,
    hash: String,
}

impl Earlier {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::new(format!("Could not use '{}': {why}", path.display()))
        };
        let file = File::open(path).map_err(|error| refuse(&error))?;
        let stored: Vec<Stored> = serde_json::from_reader(BufReader::new(file))
            .map_err(|error| refuse(&format!("no output of 'qimg hash --output=json': {error}")))?;
        let [stored] = stored.try_into().map_err(|all: Vec<Stored>| {
            refuse(&format!("it is about {} images, one is needed", all.len()))
        })?;
        Self::of(stored).map_err(|why| refuse(&why))
    }

    fn of(stored: Stored) -> Result<Self, String> {
        if stored.construction != CONSTRUCTION {
            let found = stored.construction;
            return Err(format!("its hashes are '{found}', this program makes '{CONSTRUCTION}'"));
        }
        let digest = |text: &str| text.parse::<Digest>().map_err(|error| error.to_string());
        let ranges = stored.range_bytes.map(RangeBytes::new).transpose();
        let ranges = ranges.map_err(|error| error.to_string())?;
        let known = stored.ranges.unwrap_or_default().into_iter();
        let known = known
            .map(|range| Ok(RangeHash { start: range.start, hash: digest(&range.hash)? }))
            .collect::<Result<Vec<_>, String>>()?;
        if !known.is_sorted_by(|a, b| a.start < b.start) {
            return Err("its ranges are not in order".into());
        }
        let hash = digest(&stored.hash)?;
        Ok(Self { hash, virtual_size: stored.virtual_size, ranges, known })
    }

    /// Length of the ranges it knows.
    pub(super) fn ranges(&self) -> Option<RangeBytes> {
        self.ranges
    }
}

/// Collects what is different, as an image is hashed again.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    earlier: &'a Earlier,
    /// Index of the next known range.
    next: usize,
    /// Starts and ends; neighbours are merged.
    different: Vec<(u64, u64)>,
}

/// What is different.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// What was known.
    pub(super) before: Digest,
    /// What is.
    pub(super) now: GuestHash,
    /// Size of the disk before, in bytes.
    pub(super) size_before: u64,
    /// Whether ranges were compared.
    pub(super) has_ranges: bool,
    /// Starts and ends in bytes.
    pub(super) different: Vec<(u64, u64)>,
}

impl Answer {
    /// Whether nothing is different.
    pub(super) fn is_same(&self) -> bool {
        self.before == self.now.hash
    }
}

impl<'a> Changes<'a> {
    pub(super) fn new(earlier: &'a Earlier) -> Self {
        Self { earlier, next: 0, different: Vec::new() }
    }

    /// The next range that is not all zeros.
    pub(super) fn see(&mut self, range: RangeHash) {
        self.skip_to(range.start);
        match self.earlier.known.get(self.next) {
            Some(known) if known.start == range.start => {
                self.next += 1;
                if known.hash != range.hash {
                    self.add(range.start);
                }
            }
            _ => self.add(range.start),
        }
    }

    /// Known ranges before `start` are zeros now.
    fn skip_to(&mut self, start: u64) {
        while let Some(known) =
            self.earlier.known.get(self.next).filter(|known| known.start < start)
        {
            self.add(known.start);
            self.next += 1;
        }
    }

    fn add(&mut self, start: u64) {
        let len = self.earlier.ranges.map_or(0, RangeBytes::get);
        let end = start.saturating_add(len);
        match self.different.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => self.different.push((start, end)),
        }
    }

    pub(super) fn finish(mut self, now: &GuestHash) -> Answer {
        self.skip_to(u64::MAX);
        let size_before = self.earlier.virtual_size;
        let end = size_before.max(now.virtual_size);
        // The last range of a disk may reach beyond its end.
        let different = self.different.into_iter().map(|(start, stop)| (start, stop.min(end)));
        Answer {
            before: self.earlier.hash,
            now: *now,
            size_before,
            has_ranges: self.earlier.ranges.is_some(),
            different: different.collect(),
        }
    }
}
