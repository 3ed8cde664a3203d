//! Census: how often each host cluster is referenced, or said to be, in a byte per cluster.
//!
//! A consistency check makes two of them, one of the references it finds and one of the counts
//! that are stored, and compares them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use qcow2_format::HostCluster;

/// Clusters per page: a page exists only where something was counted.
const PAGE_CLUSTERS: usize = 4096;
const PAGE_SHIFT: u32 = PAGE_CLUSTERS.trailing_zeros();
/// In a page this stands for "large": the count is in the map.
const LARGE: u8 = u8::MAX;

type Page = [u8; PAGE_CLUSTERS];

/// A count for each host cluster.
///
/// Memory: one byte per cluster in stretches of 4096 clusters where anything was counted,
/// 16 bytes per 4096 clusters up to the highest one, and a map entry per count above 254.
#[derive(Clone, Debug, Default)]
pub struct Census {
    pages: Vec<Option<Box<Page>>>,
    large: BTreeMap<u64, u64>,
    end: u64,
}

/// A cluster for which two censuses disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The cluster.
    pub cluster: HostCluster,
    /// Its count in the refcount blocks.
    pub stored: u64,
    /// The references found.
    pub counted: u64,
}

impl Census {
    /// Every count is 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: Vec::new(), large: BTreeMap::new(), end: 0 }
    }

    /// The count of a cluster.
    #[must_use]
    pub fn get(&self, cluster: HostCluster) -> u64 {
        let (page, slot) = place(cluster.get());
        let page = self.pages.get(page).and_then(Option::as_deref);
        match page.and_then(|page| page.get(slot)) {
            None => 0,
            Some(&LARGE) => self.large.get(&cluster.get()).copied().unwrap_or(0),
            Some(&count) => u64::from(count),
        }
    }

    /// Replaces the count of a cluster.
    pub fn set(&mut self, cluster: HostCluster, count: u64) {
        let index = cluster.get();
        if count == 0 && self.get(cluster) == 0 {
            return;
        }
        let slot = self.slot(index);
        let before = *slot;
        *slot = u8::try_from(count).unwrap_or(LARGE);
        let is_large = *slot == LARGE;
        if is_large {
            self.large.insert(index, count);
        } else if before == LARGE {
            self.large.remove(&index);
        }
        if count > 0 {
            self.end = self.end.max(index.saturating_add(1));
        }
    }

    /// Adds `weight` to each of `count` clusters from `first` on.
    pub fn add(&mut self, first: HostCluster, count: u64, weight: u64) {
        let end = first.get().saturating_add(count);
        let mut index = first.get();
        while index < end {
            let (_, slot) = place(index);
            let in_page = PAGE_CLUSTERS.saturating_sub(slot) as u64;
            let run = in_page.min(end.saturating_sub(index));
            self.add_in_page(index, run, weight);
            index = index.saturating_add(run);
        }
        if count > 0 && weight > 0 {
            self.end = self.end.max(end);
        }
    }

    /// Adds `weight` to `count` clusters of one page.
    fn add_in_page(&mut self, first: u64, count: u64, weight: u64) {
        let mut index = first;
        let (_, slot) = place(first);
        let slots = slot..slot.saturating_add(usize::try_from(count).unwrap_or(PAGE_CLUSTERS));
        let small = u8::try_from(weight).unwrap_or(LARGE);
        let mut overflowed = Vec::new();
        for slot in self.page(first).get_mut(slots).unwrap_or(&mut []) {
            match slot.checked_add(small) {
                Some(sum) if sum < LARGE => *slot = sum,
                _ => overflowed.push((index, core::mem::replace(slot, LARGE))),
            }
            index = index.saturating_add(1);
        }
        for (index, before) in overflowed {
            let before = u64::from(before);
            let large = self.large.entry(index).or_insert(before);
            *large = large.saturating_add(weight);
        }
    }

    /// One more than the highest cluster that was ever counted; 0 if there is none.
    #[must_use]
    pub const fn end(&self) -> HostCluster {
        HostCluster::new(self.end)
    }

    /// The clusters whose count is not 0, ascending, each with its count.
    pub fn counts(&self) -> impl Iterator<Item = (HostCluster, u64)> + '_ {
        let pages = self.pages.iter().enumerate();
        pages.filter_map(|(number, page)| Some((number, page.as_deref()?))).flat_map(
            move |(number, page)| {
                let first = (number as u64) << PAGE_SHIFT;
                let counted = page.iter().enumerate().filter(|&(_, &count)| count != 0);
                counted.map(move |(slot, &count)| {
                    let index = first.saturating_add(slot as u64);
                    let count = match count {
                        LARGE => self.large.get(&index).copied().unwrap_or(0),
                        small => u64::from(small),
                    };
                    (HostCluster::new(index), count)
                })
            },
        )
    }

    /// The clusters that are counted more often than a count of this width can say.
    pub fn above(&self, max: u64) -> impl Iterator<Item = (HostCluster, u64)> + '_ {
        self.counts().filter(move |&(_, count)| count > max)
    }

    /// The clusters for which the stored counts differ from those found, ascending. What is
    /// found counts for at most `max`, the largest count that can be stored.
    pub fn mismatches<'a>(
        stored: &'a Self,
        counted: &'a Self,
        max: u64,
    ) -> impl Iterator<Item = Mismatch> + 'a {
        let pages = stored.pages.len().max(counted.pages.len());
        let differing = (0..pages).filter(move |&number| {
            let [stored, counted] = [stored, counted].map(|census| census.page_at(number));
            stored != counted || stored.is_some_and(|page| page.contains(&LARGE))
                // Equal pages still differ where the width cuts off what was found.
                || max < u64::from(LARGE) && counted.is_some()
        });
        differing.flat_map(move |number| {
            let first = (number as u64) << PAGE_SHIFT;
            (0..PAGE_CLUSTERS as u64).filter_map(move |slot| {
                let cluster = HostCluster::new(first.saturating_add(slot));
                let found = counted.get(cluster).min(max);
                let stored = stored.get(cluster);
                (found != stored).then_some(Mismatch { cluster, stored, counted: found })
            })
        })
    }

    fn page_at(&self, number: usize) -> Option<&Page> {
        self.pages.get(number).and_then(Option::as_deref)
    }

    /// The page of a cluster, made if it is not there.
    fn page(&mut self, index: u64) -> &mut Page {
        let (number, _) = place(index);
        if self.pages.len() <= number {
            self.pages.resize_with(number.saturating_add(1), || None);
        }
        match self.pages.get_mut(number) {
            Some(page) => page.get_or_insert_with(|| Box::new([0; PAGE_CLUSTERS])),
            None => unreachable!("the vector was resized to hold this page"),
        }
    }

    fn slot(&mut self, index: u64) -> &mut u8 {
        let (_, slot) = place(index);
        match self.page(index).get_mut(slot) {
            Some(slot) => slot,
            None => unreachable!("a slot is below the number of clusters in a page"),
        }
    }
}

/// Page number and slot of a cluster.
fn place(index: u64) -> (usize, usize) {
    let page = usize::try_from(index >> PAGE_SHIFT).unwrap_or(usize::MAX);
    let slot = index & (PAGE_CLUSTERS as u64).saturating_sub(1);
    (page, usize::try_from(slot).unwrap_or(0))
}

#[cfg(test)]
mod tests;
