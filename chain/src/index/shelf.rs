//! The pages in memory, under a byte budget.
//!
//! A page is found under the shared lock of one shard. Pages never change, so that whoever was
//! overtaken while building one loses nothing but time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use super::page::Page;
use super::place::Place;

/// Shards, so that threads do not fight for one lock; fewer where the budget is small.
const SHARDS_MAX: u64 = 16;

/// Bytes of budget that are worth a shard of their own: room for the largest pages.
const SHARD_BYTES_MIN: u64 = 256 << 10;

/// What a page costs beside its own memory: its key and value in a table that is not full, and its
/// turn on the clock.
const OVERHEAD_BYTES: usize = 64;

/// Pages by number.
#[derive(Debug)]
pub(super) struct Shelf {
    shards: Box<[RwLock<Shard>]>,
    shard_bytes: usize,
}

#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<u64, Page, BuildHasherDefault<NumberHasher>>,
    /// Order of arrival with second chances (CLOCK).
    clock: VecDeque<u64>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(budget_bytes: u64) -> Self {
        let shards = (budget_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        Self {
            shards: (0..shards).map(|_| RwLock::default()).collect(),
            shard_bytes: usize::try_from(budget_bytes / shards).unwrap_or(usize::MAX),
        }
    }

    /// What a page says about the byte at `at`: the outer `None` means that the page is not here.
    pub(super) fn look(&self, number: u64, at: u64) -> Option<Option<Place>> {
        let shard = self.shard(number).read().unwrap_or_else(PoisonError::into_inner);
        let page = shard.pages.get(&number)?;
        // Looking first: threads that only read do not fight for the cache line.
        if !page.used.load(Ordering::Relaxed) {
            page.used.store(true, Ordering::Relaxed);
        }
        Some(page.find(at))
    }

    /// Keeps a page, and lets others go for it. Of one that is larger than all the room there is only
    /// stays that the layers must be asked: building it for every read would be worse.
    pub(super) fn put(&self, number: u64, page: Page) {
        let too_large = page.memory() + OVERHEAD_BYTES > self.shard_bytes;
        let page = if too_large { Page::unknown() } else { page };
        let cost = page.memory() + OVERHEAD_BYTES;
        if cost > self.shard_bytes {
            return;
        }
        let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else was faster, with the same page.
        if shard.pages.contains_key(&number) {
            return;
        }
        shard.evict_to(self.shard_bytes - cost);
        shard.bytes += cost;
        shard.clock.push_back(number);
        shard.pages.insert(number, page);
    }

    /// Pages here, and bytes of memory that they take.
    pub(super) fn counts(&self) -> (usize, usize) {
        let lock = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            (shard.pages.len(), shard.bytes)
        };
        let add = |sum: (usize, usize), one: (usize, usize)| (sum.0 + one.0, sum.1 + one.1);
        self.shards.iter().map(lock).fold((0, 0), add)
    }

    fn shard(&self, number: u64) -> &RwLock<Shard> {
        // Neighbouring pages fall into different shards.
        &self.shards[(number % self.shards.len() as u64) as usize]
    }
}

impl Shard {
    /// Removes pages that were not used of late until so many bytes are left.
    fn evict_to(&mut self, keep: usize) {
        while self.bytes > keep {
            let Some(number) = self.clock.pop_front() else { return };
            let Some(page) = self.pages.get(&number) else { continue };
            if page.used.swap(false, Ordering::Relaxed) {
                self.clock.push_back(number);
                continue;
            }
            self.bytes = self.bytes.saturating_sub(page.memory() + OVERHEAD_BYTES);
            self.pages.remove(&number);
        }
    }
}

/// Numbers come from offsets inside the disk, and a bad spread costs time, no more: a multiplication
/// is enough.
#[derive(Clone, Copy, Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper half depends on all bits of the number.
        self.0 = product ^ (product >> 32);
    }
}
