//! L2 tables in memory, in slices, under a byte budget.
//!
//! A slice is named by the guest range it maps, not by where it lies: a table that moves keeps its
//! slices. Hits take a shared lock of one shard and never wait for I/O. A slice that is dirty or
//! in somebody's hands is never evicted, so whoever holds one may change it.
//!
//! An extended entry is two words, which belong together: changes of a slice exclude each other
//! and count themselves, and a reader that sees the count move reads again.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use cluster_map::Mapping;
use crossbeam_utils::CachePadded;
use qcow2_format::{L2Bitmap, L2Entry, L2Layout};

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

const SHARDS: usize = crate::sync::parts(16);

/// Number of a slice: guest cluster index divided by the entries per slice.
pub(crate) type SliceNumber = u64;

/// A piece of an L2 table.
#[derive(Debug)]
pub(crate) struct Slice {
    layout: L2Layout,
    /// One word for each entry, or two.
    words: Box<[AtomicU64]>,
    /// Odd while an extended entry is being changed.
    changes: AtomicU64,
    /// Held by whoever changes an extended entry or copies the slice.
    changing: Mutex<()>,
    dirty: AtomicBool,
    used: AtomicBool,
}

/// All slices in memory.
#[derive(Debug)]
pub(crate) struct SliceCache {
    shards: [CachePadded<RwLock<Shard>>; SHARDS],
    dirty: Mutex<Vec<SliceNumber>>,
    slices_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    slices: HashMap<SliceNumber, Arc<Slice>>,
    /// Insertion order with second chances (CLOCK).
    clock: VecDeque<SliceNumber>,
    /// Grows with every eviction: a loader that sees it change read the disk too early.
    evictions: u64,
}

/// Changed slices on their way to the disk. They count as clean, so that later changes are noticed,
/// but stay in memory: read back before they are written, they would be old. Unless they
/// [arrive](DirtySlices::are_written), they count as changed again.
#[derive(Debug)]
#[must_use = "dropping it unwritten makes the slices dirty again"]
pub(crate) struct DirtySlices<'c> {
    cache: &'c SliceCache,
    held: Vec<(SliceNumber, Arc<Slice>)>,
    copies: Vec<(SliceNumber, Vec<u8>)>,
}

/// What a loader saw before it read the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadTicket(u64);

impl Slice {
    /// A slice with the words of an L2 table.
    pub(crate) fn new(layout: L2Layout, words: impl Iterator<Item = u64>) -> Self {
        Self {
            layout,
            words: words.map(AtomicU64::new).collect(),
            changes: AtomicU64::new(0),
            changing: Mutex::default(),
            dirty: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    /// The entry, as it was at one instant.
    pub(crate) fn get(&self, index: usize) -> Mapping {
        match self.layout {
            L2Layout::Standard => {
                Mapping::standard(L2Entry::from_bits(self.words[index].load(Ordering::Acquire)))
            }
            L2Layout::Extended => self.get_pair(index),
        }
    }

    fn get_pair(&self, index: usize) -> Mapping {
        loop {
            let before = self.changes.load(Ordering::Acquire);
            if before & 1 == 0 {
                let pair = self.load_pair(index);
                // The words are read before the count is looked at again.
                fence(Ordering::Acquire);
                if self.changes.load(Ordering::Relaxed) == before {
                    return pair;
                }
            }
            crate::sync::spin_loop();
        }
    }

    fn load_pair(&self, index: usize) -> Mapping {
        let entry = self.words[index * 2].load(Ordering::Relaxed);
        let bitmap = self.words[index * 2 + 1].load(Ordering::Relaxed);
        Mapping::extended(L2Entry::from_bits(entry), L2Bitmap::from_bits(bitmap))
    }

    fn set(&self, index: usize, mapping: Mapping) {
        match self.layout {
            L2Layout::Standard => {
                self.words[index].store(mapping.entry.bits(), Ordering::Release);
            }
            L2Layout::Extended => {
                let _changing = self.lock_changing();
                let before = self.changes.load(Ordering::Relaxed);
                self.changes.store(before.wrapping_add(1), Ordering::Relaxed);
                // Nobody sees a word of the new pair without seeing the odd count.
                fence(Ordering::Release);
                self.words[index * 2].store(mapping.entry.bits(), Ordering::Relaxed);
                self.words[index * 2 + 1].store(mapping.bitmap.bits(), Ordering::Relaxed);
                self.changes.store(before.wrapping_add(2), Ordering::Release);
            }
        }
    }

    /// The slice as it stands on disk. Each entry is whole; others may change meanwhile.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let _changing = self.lock_changing();
        self.words.iter().flat_map(|word| word.load(Ordering::Acquire).to_be_bytes()).collect()
    }

    fn lock_changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_free(slice: &Arc<Self>) -> bool {
        // The cache holds one; others can only be made under the shard's lock.
        let unheld = Arc::strong_count(slice) == 1;
        // What the last holder did before letting go is seen from here on: counting alone does not
        // promise that.
        fence(Ordering::Acquire);
        unheld && !slice.dirty.load(Ordering::Acquire)
    }
}

impl SliceCache {
    pub(crate) fn new(budget_bytes: u64, slice_bytes: u64) -> Self {
        let slices = budget_bytes / slice_bytes.max(1);
        let per_shard = usize::try_from(slices / SHARDS as u64).unwrap_or(usize::MAX).max(4);
        Self { shards: Default::default(), dirty: Mutex::default(), slices_per_shard: per_shard }
    }

    /// The slice, if it is in memory.
    pub(crate) fn get(&self, number: SliceNumber) -> Result<Arc<Slice>, LoadTicket> {
        let shard = self.read(number);
        match shard.slices.get(&number) {
            Some(slice) => {
                if !slice.used.load(Ordering::Relaxed) {
                    slice.used.store(true, Ordering::Relaxed);
                }
                Ok(Arc::clone(slice))
            }
            None => Err(LoadTicket(shard.evictions)),
        }
    }

    /// Adds a slice read from disk after `ticket` was drawn. Returns the slice that is in memory
    /// now, or `None` when the disk must be read again: a newer version came and went meanwhile.
    pub(crate) fn insert(
        &self,
        number: SliceNumber,
        slice: Slice,
        ticket: LoadTicket,
    ) -> Option<Arc<Slice>> {
        let mut shard = self.write(number);
        if let Some(slice) = shard.slices.get(&number) {
            return Some(Arc::clone(slice));
        }
        if shard.evictions != ticket.0 {
            return None;
        }
        if shard.slices.len() >= self.slices_per_shard {
            shard.evict_to(self.slices_per_shard.saturating_sub(1));
        }
        let slice = Arc::new(slice);
        shard.slices.insert(number, Arc::clone(&slice));
        shard.clock.push_back(number);
        Some(slice)
    }

    /// Changes an entry in memory; the next flush writes the slice. The caller's `Arc` keeps the
    /// slice in the cache until it is marked dirty.
    pub(crate) fn publish(
        &self,
        number: SliceNumber,
        slice: &Arc<Slice>,
        index: usize,
        mapping: Mapping,
    ) {
        slice.set(index, mapping);
        self.mark_dirty(number, slice);
    }

    fn mark_dirty(&self, number: SliceNumber, slice: &Slice) {
        // The list first: whoever finds the slice dirty already relies on it being listed.
        let mut list = self.lock_dirty();
        if !slice.dirty.swap(true, Ordering::AcqRel) {
            list.push(number);
        }
    }

    /// Takes the changed slices to write them. A change that comes later marks its slice dirty
    /// again.
    pub(crate) fn take_dirty(&self) -> DirtySlices<'_> {
        let mut numbers = std::mem::take(&mut *self.lock_dirty());
        numbers.sort_unstable();
        let mut taken = DirtySlices { cache: self, held: Vec::new(), copies: Vec::new() };
        for number in numbers {
            // A dirty slice is never evicted: it is here.
            let Ok(slice) = self.get(number) else { continue };
            slice.dirty.swap(false, Ordering::AcqRel);
            taken.copies.push((number, slice.bytes()));
            taken.held.push((number, slice));
        }
        taken
    }

    /// Slices in memory, and those among them that a flush has to write.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let read = |shard: &RwLock<Shard>| {
            shard.read().unwrap_or_else(PoisonError::into_inner).slices.len()
        };
        let slices = self.shards.iter().map(|shard| read(shard)).sum();
        (slices, self.lock_dirty().len())
    }

    /// Goes back to the budget where dirty slices have led beyond it.
    fn trim(&self) {
        for shard in &self.shards {
            let shard: &RwLock<Shard> = shard;
            let len = shard.read().unwrap_or_else(PoisonError::into_inner).slices.len();
            if len > self.slices_per_shard {
                let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
                shard.evict_to(self.slices_per_shard);
            }
        }
    }

    /// Whether so much is dirty that eviction will soon find nothing to evict.
    pub(crate) fn wants_flush(&self) -> bool {
        self.lock_dirty().len() >= self.slices_per_shard.saturating_mul(SHARDS / 4).max(4)
    }

    /// Forgets every slice from `first` on: its table is no more. None of them is dirty or held.
    pub(crate) fn forget_from(&mut self, first: SliceNumber) {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            shard.slices.retain(|number, _| *number < first);
            shard.clock.retain(|number| *number < first);
        }
    }

    fn shard(&self, number: SliceNumber) -> &RwLock<Shard> {
        // Neighbouring slices fall into different shards.
        &self.shards[(number % SHARDS as u64) as usize]
    }

    fn read(&self, number: SliceNumber) -> RwLockReadGuard<'_, Shard> {
        self.shard(number).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, number: SliceNumber) -> RwLockWriteGuard<'_, Shard> {
        self.shard(number).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_dirty(&self) -> MutexGuard<'_, Vec<SliceNumber>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirtySlices<'_> {
    /// The slices in order, as they were when they were taken.
    pub(crate) fn copies(&self) -> &[(SliceNumber, Vec<u8>)] {
        &self.copies
    }

    /// The disk holds them now: they may leave memory.
    pub(crate) fn are_written(mut self) {
        self.held.clear();
        self.cache.trim();
    }
}

impl Drop for DirtySlices<'_> {
    fn drop(&mut self) {
        for (number, slice) in &self.held {
            self.cache.mark_dirty(*number, slice);
        }
    }
}

impl Shard {
    /// Removes slices that are clean, unheld and not recently used, until `keep` are left; two
    /// rounds at most. When all are busy the budget is exceeded for a moment rather than anything
    /// lost.
    fn evict_to(&mut self, keep: usize) {
        for _ in 0..self.clock.len().saturating_mul(2) {
            if self.slices.len() <= keep {
                return;
            }
            let Some(number) = self.clock.pop_front() else { return };
            let Some(slice) = self.slices.get(&number) else { continue };
            let used = slice.used.swap(false, Ordering::Relaxed);
            if !used && Slice::is_free(slice) {
                self.slices.remove(&number);
                self.evictions = self.evictions.wrapping_add(1);
            } else {
                self.clock.push_back(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(value: u64) -> Slice {
        Slice::new(L2Layout::Standard, std::iter::repeat_n(value, 8))
    }

    fn entry(bits: u64) -> Mapping {
        Mapping::standard(L2Entry::from_bits(bits))
    }

    fn load(cache: &SliceCache, number: u64, value: u64) -> Arc<Slice> {
        match cache.get(number) {
            Ok(slice) => slice,
            Err(ticket) => cache.insert(number, slice(value), ticket).unwrap(),
        }
    }

    #[test]
    fn dirty_slices_survive_any_pressure() {
        let cache = SliceCache::new(0, 64);
        let first = load(&cache, 0, 0);
        cache.publish(0, &first, 3, entry(77));
        drop(first);
        for number in 1..1000 {
            load(&cache, number * SHARDS as u64, number);
        }
        assert_eq!(cache.get(0).unwrap().get(3), entry(77));
        let dirty = cache.take_dirty();
        assert_eq!(dirty.copies().len(), 1);
        assert_eq!(dirty.copies()[0].1[24..32], 77_u64.to_be_bytes());
        dirty.are_written();
        assert!(cache.take_dirty().copies().is_empty());
    }

    #[test]
    fn slices_on_their_way_to_the_disk_stay_in_memory() {
        let cache = SliceCache::new(0, 64);
        cache.publish(0, &load(&cache, 0, 0), 3, entry(77));
        let pressure = || (1..100).for_each(|number| drop(load(&cache, number * 16, number)));
        let dirty = cache.take_dirty();
        pressure();
        // Read from the disk now, it would lack the change.
        assert_eq!(load(&cache, 0, 0).get(3), entry(77));
        // A flush that failed: the change is only in memory.
        drop(dirty);
        pressure();
        assert_eq!(cache.get(0).unwrap().get(3), entry(77));
        let dirty = cache.take_dirty();
        assert_eq!(dirty.copies().len(), 1, "it counts as changed again");
        dirty.are_written();
        pressure();
        assert!(cache.get(0).is_err(), "now it may go");
    }

    #[test]
    fn the_budget_bounds_clean_slices() {
        let cache = SliceCache::new(0, 64);
        for number in 0..1000 {
            load(&cache, number * SHARDS as u64, number);
        }
        assert!(cache.read(0).slices.len() <= 5);
    }

    #[test]
    fn dirty_slices_beyond_the_budget_go_when_they_are_written() {
        let cache = SliceCache::new(0, 64);
        for shard in 0..SHARDS as u64 {
            // All in one shard, more than it may keep.
            for number in 0..20 {
                let number = number * SHARDS as u64 + shard;
                cache.publish(number, &load(&cache, number, 0), 0, entry(1));
            }
            cache.take_dirty().are_written();
        }
        assert!(cache.counts().0 <= 4 * SHARDS, "{:?}", cache.counts());
    }

    #[test]
    fn a_loader_that_was_overtaken_reads_again() {
        let cache = SliceCache::new(0, 64);
        let ticket = cache.get(0).unwrap_err();
        // Meanwhile the slice is loaded, and evicted by others.
        load(&cache, 0, 1);
        for number in 1..100 {
            load(&cache, number * SHARDS as u64, number);
        }
        assert!(cache.get(0).is_err(), "the slice is gone");
        assert!(cache.insert(0, slice(9), ticket).is_none(), "its stale bytes are refused");
    }

    #[test]
    fn no_change_is_published_before_a_flush_would_find_it() {
        let cache = SliceCache::new(0, 64);
        let slice = load(&cache, 0, 0);
        let let_others_run = || std::thread::sleep(std::time::Duration::from_millis(50));
        std::thread::scope(|scope| {
            // A flush that looks now finds nothing: whoever comes first is held up here.
            let list = cache.lock_dirty();
            scope.spawn(|| cache.publish(0, &slice, 0, entry(1)));
            let_others_run();
            let second = scope.spawn(|| cache.publish(0, &slice, 1, entry(2)));
            let_others_run();
            let early = second.is_finished();
            drop(list);
            assert!(!early, "it relied on a slice that nobody has announced yet");
        });
        let dirty = cache.take_dirty();
        assert_eq!(dirty.copies().len(), 1);
        assert_eq!(
            dirty.copies()[0].1[..16],
            [[0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 2]].concat()
        );
        dirty.are_written();
    }

    #[test]
    fn an_extended_entry_is_seen_whole() {
        let slice = Slice::new(L2Layout::Extended, std::iter::repeat_n(0, 16));
        std::thread::scope(|scope| {
            for part in 0..2 {
                let slice = &slice;
                scope.spawn(move || {
                    for value in (0..20_000).map(|value| value * 2 + part) {
                        let bitmap = L2Bitmap::from_bits(!value);
                        slice.set(3, Mapping::extended(L2Entry::from_bits(value), bitmap));
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let seen = slice.get(3);
                    let (entry, bitmap) = (seen.entry.bits(), seen.bitmap.bits());
                    assert!(entry == 0 && bitmap == 0 || entry == !bitmap, "{seen:?}");
                    let bytes = slice.bytes();
                    let word = |at| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
                    assert!(word(48) == 0 && word(56) == 0 || word(48) == !word(56));
                }
            });
        });
    }
}
