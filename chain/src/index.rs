//! The merged index: which of the lower layers answers each byte, and from where, remembered.
//!
//! The layers below the top do not change while they lie there, so what the [walk](crate::walk) finds
//! once stays true. Guest space is cut into pages; one is built when it is first asked for, and a
//! lookup in it is a binary search, however deep the chain is. An index is made for one set of layers
//! and goes with it: whoever puts another layer there makes another set, with an index of its own, so
//! that nothing old is left (CH-6).

mod build;
mod page;
mod place;
mod shelf;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::page::{PAGE_BYTES_MAX, Page};
pub(crate) use self::place::Place;
use self::shelf::Shelf;
use crate::layer::Layer;

/// Clusters (or subclusters) that a page describes: what a piece of an L2 table maps that the engine
/// reads at once.
const PAGE_UNITS: u64 = 512;

/// Bytes of guest space that one page describes at least.
const PAGE_BYTES_MIN: u64 = 4 << 20;

/// What is remembered about one set of lower layers.
#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two.
    page_bytes: u64,
    /// Bytes of guest space that the index is about: the disk of the nearest layer.
    size: u64,
    shelf: Shelf,
}

impl Index {
    /// An index for these layers, nearest first; `None` where it has no room, or no use: one layer
    /// alone is asked as fast.
    pub(crate) fn new(layers: &[Arc<Layer>], budget_bytes: u64) -> Option<Self> {
        let [nearest, _, ..] = layers else { return None };
        if budget_bytes == 0 || u16::try_from(layers.len()).is_err() {
            return None;
        }
        let units = layers.iter().filter_map(|layer| layer.image());
        // The finest layer decides how many runs there may be.
        let finest = units.map(|image| image.geometry().subcluster_bytes()).min();
        let page_bytes = finest
            .map_or(PAGE_BYTES_MAX, |unit| unit.saturating_mul(PAGE_UNITS))
            .clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
        Some(Self { page_bytes, size: nearest.virtual_size(), shelf: Shelf::new(budget_bytes) })
    }

    /// Who answers the bytes from `at` on, for `len` bytes at most, of the layers for which the index
    /// was made. `None` where a layer is damaged somewhere near: then the layers must be asked, up to
    /// [`page_end`](Index::page_end) at most. `at` lies inside the disk of the nearest layer.
    pub(crate) fn find(&self, layers: &[Arc<Layer>], at: u64, len: u64) -> Option<Place> {
        let mut place = self.find_in_page(layers, at)?;
        // A page ends where it does for no reason that the layers know of.
        while place.len() < len
            && let next = at.saturating_add(place.len())
            && next == self.page_end(at.saturating_add(place.len() - 1))
            && next < self.size
        {
            match self.find_in_page(layers, next) {
                Some(next) if place.join(&next) => {}
                _ => break,
            }
        }
        Some(place.at_most(len))
    }

    /// As [`find`](Index::find), for somebody who walks over the whole disk: large ranges in which
    /// nobody owns anything are found without pages.
    pub(crate) fn survey(&self, layers: &[Arc<Layer>], at: u64, len: u64) -> Option<Place> {
        if let Some(known) = self.shelf.look(at / self.page_bytes, at) {
            return known.map(|place| place.at_most(len));
        }
        let rest = len.min(self.size.saturating_sub(at));
        let to_page_end = self.page_end(at).saturating_sub(at);
        let untouched = build::untouched(layers, at, rest);
        match untouched.filter(|place| place.len() >= rest.min(to_page_end)) {
            Some(place) => Some(place),
            None => self.find_in_page(layers, at).map(|place| place.at_most(len)),
        }
    }

    /// Where the page of a byte ends.
    pub(crate) fn page_end(&self, at: u64) -> u64 {
        (at | (self.page_bytes - 1)).saturating_add(1)
    }

    /// Pages in memory, and bytes that they take.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.shelf.counts()
    }

    fn find_in_page(&self, layers: &[Arc<Layer>], at: u64) -> Option<Place> {
        let number = at / self.page_bytes;
        if let Some(known) = self.shelf.look(number, at) {
            return known;
        }
        let page = self.build(layers, number);
        let place = page.find(at);
        self.shelf.put(number, page);
        place
    }

    /// Outside all locks: the layers are asked, and the host.
    fn build(&self, layers: &[Arc<Layer>], number: u64) -> Page {
        let start = number.saturating_mul(self.page_bytes);
        let end = self.page_end(start).min(self.size);
        match build::places(layers, start..end) {
            Ok(places) => Page::new(start, &places),
            // Whoever asks for a part that is not damaged gets it from the walk, and the others get
            // the error from there.
            Err(_) => Page::unknown(),
        }
    }
}
