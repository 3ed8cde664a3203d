//! L2 tables in memory, in slices, under a byte budget.
//!
//! A slice is named by the guest range it maps, not by where it lies: a table that moves keeps its
//! slices. Where the budget covers the whole disk, each slice has a place of its own, is found
//! without any lock and stays. Otherwise hits take a shared lock of one shard; they never wait for
//! I/O. A slice that is dirty or in somebody's hands is never evicted, so whoever holds one may
//! change it.

mod hasher;
mod slice;

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::PoisonError;

use cluster_map::Mapping;
use crossbeam_utils::CachePadded;

use self::hasher::BuildSliceHasher;
pub(crate) use self::slice::Slice;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

const SHARDS: usize = crate::sync::parts(16);

/// Slices that a shard of a writable image keeps whatever the budget says: some are dirty or held.
const SLICES_PER_SHARD_MIN: usize = 4;

/// Number of a slice: guest cluster index divided by the entries per slice.
pub(crate) type SliceNumber = u64;

/// All slices in memory.
#[derive(Debug)]
pub(crate) struct SliceCache {
    /// The slices of the disk by number, if the budget covers all of them. What a disk that was
    /// grown has beyond them is in the shards.
    whole_disk: Box<[OnceLock<Arc<Slice>>]>,
    shards: [CachePadded<RwLock<Shard>>; SHARDS],
    dirty: Mutex<Vec<SliceNumber>>,
    /// Length of the list, for those who must not wait for it.
    dirty_count: AtomicUsize,
    slices_per_shard: usize,
    /// So many dirty slices call for a flush.
    dirty_max: usize,
}

/// A slice to look at: lent by the cache where it stays anyway.
#[derive(Debug)]
pub(crate) enum SliceRef<'c> {
    Lent(&'c Slice),
    Held(Arc<Slice>),
}

impl Deref for SliceRef<'_> {
    type Target = Slice;

    fn deref(&self) -> &Slice {
        match self {
            Self::Lent(slice) => slice,
            Self::Held(slice) => slice,
        }
    }
}

#[derive(Debug, Default)]
struct Shard {
    slices: HashMap<SliceNumber, Arc<Slice>, BuildSliceHasher>,
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

impl SliceCache {
    /// `disk_slices` is how many slices map the whole disk.
    pub(crate) fn new(budget_bytes: u64, slice_bytes: u64, disk_slices: u64) -> Self {
        Self::with_least(SLICES_PER_SHARD_MIN, budget_bytes, slice_bytes, disk_slices)
    }

    /// The same for an image that nobody writes to: without dirty slices, a shard works with one.
    pub(crate) fn for_reading(budget_bytes: u64, slice_bytes: u64, disk_slices: u64) -> Self {
        Self::with_least(1, budget_bytes, slice_bytes, disk_slices)
    }

    fn with_least(least: usize, budget_bytes: u64, slice_bytes: u64, disk_slices: u64) -> Self {
        let slices = budget_bytes / slice_bytes.max(1);
        let places = if disk_slices <= slices { disk_slices } else { 0 };
        let per_shard =
            |slices: u64| usize::try_from(slices / SHARDS as u64).unwrap_or(usize::MAX).max(least);
        Self {
            whole_disk: (0..places).map(|_| OnceLock::new()).collect(),
            shards: Default::default(),
            dirty: Mutex::default(),
            dirty_count: AtomicUsize::new(0),
            // A disk that has grown shares what is left of the budget.
            slices_per_shard: per_shard(slices - places),
            dirty_max: per_shard(slices).saturating_mul(SHARDS / 4).max(4),
        }
    }

    /// The slice to look at, if it is in memory.
    #[inline]
    pub(crate) fn look(&self, number: SliceNumber) -> Option<SliceRef<'_>> {
        match self.place(number) {
            Some(place) => place.get().map(|slice| SliceRef::Lent(slice)),
            None => self.get(number).ok().map(SliceRef::Held),
        }
    }

    /// The place of a slice that has one of its own.
    #[inline]
    fn place(&self, number: SliceNumber) -> Option<&OnceLock<Arc<Slice>>> {
        self.whole_disk.get(usize::try_from(number).ok()?)
    }

    /// The slice to hold, if it is in memory.
    pub(crate) fn get(&self, number: SliceNumber) -> Result<Arc<Slice>, LoadTicket> {
        if let Some(place) = self.place(number) {
            return place.get().map(Arc::clone).ok_or(LoadTicket(0));
        }
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
        if let Some(place) = self.place(number) {
            // Nothing is evicted here: who came first read what the disk says.
            return Some(Arc::clone(place.get_or_init(|| Arc::new(slice))));
        }
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
            self.dirty_count.store(list.len(), Ordering::Relaxed);
        }
    }

    /// Takes the changed slices to write them. A change that comes later marks its slice dirty
    /// again.
    pub(crate) fn take_dirty(&self) -> DirtySlices<'_> {
        let mut numbers = {
            let mut list = self.lock_dirty();
            self.dirty_count.store(0, Ordering::Relaxed);
            std::mem::take(&mut *list)
        };
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
        let in_shards: usize = self.shards.iter().map(|shard| read(shard)).sum();
        let in_places = self.whole_disk.iter().filter(|place| place.get().is_some()).count();
        (in_shards + in_places, self.lock_dirty().len())
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
        self.dirty_count.load(Ordering::Relaxed) >= self.dirty_max
    }

    /// Forgets every slice from `first` on: its table is no more. None of them is dirty or held.
    pub(crate) fn forget_from(&mut self, first: SliceNumber) {
        let kept = usize::try_from(first).unwrap_or(usize::MAX).min(self.whole_disk.len());
        self.whole_disk[kept..].iter_mut().for_each(|place| *place = OnceLock::new());
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
    use qcow2_format::{L2Entry, L2Layout};

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
        let cache = SliceCache::new(0, 64, u64::MAX);
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
        let cache = SliceCache::new(0, 64, u64::MAX);
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
        let cache = SliceCache::new(0, 64, u64::MAX);
        for number in 0..1000 {
            load(&cache, number * SHARDS as u64, number);
        }
        assert!(cache.read(0).slices.len() <= 5);
    }

    #[test]
    fn readers_may_keep_less() {
        let cache = SliceCache::for_reading(0, 64, u64::MAX);
        for number in 0..1000 {
            assert_eq!(load(&cache, number, number).get(0), entry(number));
        }
        assert_eq!(cache.counts(), (SHARDS, 0));
    }

    #[test]
    fn dirty_slices_beyond_the_budget_go_when_they_are_written() {
        let cache = SliceCache::new(0, 64, u64::MAX);
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
        let cache = SliceCache::new(0, 64, u64::MAX);
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
    fn a_budget_for_the_whole_disk_keeps_every_slice_in_its_place() {
        let mut cache = SliceCache::new(100 * 64, 64, 100);
        for number in 0..100 {
            load(&cache, number, number);
        }
        assert!((0..100).all(|number| matches!(cache.look(number), Some(SliceRef::Lent(_)))));
        assert_eq!(cache.look(7).unwrap().get(0), entry(7));
        assert_eq!(load(&cache, 7, 99).get(0), entry(7), "who came first is right");
        // What the disk has been grown by is found, too.
        assert!(cache.look(100).is_none());
        load(&cache, 100, 5);
        assert!(matches!(cache.look(100), Some(SliceRef::Held(_))));
        cache.publish(3, &load(&cache, 3, 0), 1, entry(77));
        let dirty = cache.take_dirty();
        assert_eq!(dirty.copies()[0].0, 3);
        dirty.are_written();
        cache.forget_from(50);
        assert!(cache.look(49).is_some() && cache.look(50).is_none() && cache.look(100).is_none());
        // One slice more than the budget has room for.
        let cache = SliceCache::new(100 * 64, 64, 101);
        load(&cache, 0, 0);
        assert!(matches!(cache.look(0), Some(SliceRef::Held(_))));
    }

    #[test]
    fn no_change_is_published_before_a_flush_would_find_it() {
        let cache = SliceCache::new(0, 64, u64::MAX);
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
}
