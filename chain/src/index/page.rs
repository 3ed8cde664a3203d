//! A page of the index: what it remembers about one range of the lower layers, in runs.

use std::sync::atomic::AtomicBool;

use super::place::{Owner, Place, What};

/// Bytes of guest space that one page describes at most.
pub(super) const PAGE_BYTES_MAX: u64 = 32 << 20;

/// One run: 16 bytes, since there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    word: u64,
    /// Bytes from the start of the page.
    start: u32,
    layer: u16,
    what: What,
}

const _: () = assert!(size_of::<Entry>() == 16 && PAGE_BYTES_MAX <= u32::MAX as u64);

/// What is known about one range. It never changes.
#[derive(Debug)]
pub(super) struct Page {
    start: u64,
    len: u64,
    /// In order and without gaps; none if the layers must be asked, each time for as little as is
    /// wanted.
    entries: Box<[Entry]>,
    /// Looked at since the last round of eviction.
    pub(super) used: AtomicBool,
}

impl Page {
    /// Packs places that follow each other without gaps, joined where they continue each other.
    pub(super) fn new(start: u64, places: &[Place]) -> Self {
        let mut joined: Vec<Place> = Vec::with_capacity(places.len());
        for place in places {
            if !joined.last_mut().is_some_and(|last| last.join(place)) {
                joined.push(*place);
            }
        }
        let pack = |place: &Place| {
            let Owner { what, layer, word } = place.owner;
            // A page is shorter than what 32 bits can say.
            Entry { word, start: place.start.saturating_sub(start) as u32, layer, what }
        };
        let entries = joined.iter().map(pack).collect();
        let len = joined.iter().map(|place| place.len).sum();
        Self { start, len, entries, used: AtomicBool::new(false) }
    }

    /// A page about which nothing can be remembered.
    pub(super) fn unknown() -> Self {
        Self { start: 0, len: 0, entries: Box::default(), used: AtomicBool::new(false) }
    }

    /// The place of the byte at `at`, which lies in this page, up to its end; `None` if the layers
    /// must be asked.
    pub(super) fn find(&self, at: u64) -> Option<Place> {
        let skip = at.saturating_sub(self.start);
        let after = self.entries.partition_point(|entry| u64::from(entry.start) <= skip);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        let end = self.entries.get(after).map_or(self.len, |next| u64::from(next.start));
        let owner = Owner { what: entry.what, layer: entry.layer, word: entry.word };
        let owner = owner.advanced(skip.saturating_sub(u64::from(entry.start)));
        Some(Place { start: at, len: end.saturating_sub(skip), owner })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.entries)
    }
}
