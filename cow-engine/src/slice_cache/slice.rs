//! A slice of an L2 table in memory.
//!
//! An extended entry is two words, which belong together: changes of a slice exclude each other
//! and count themselves, and a reader that sees the count move reads again.

use std::sync::PoisonError;

use cluster_map::Mapping;
use qcow2_format::{L2Bitmap, L2Entry, L2Layout};

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::{Arc, Mutex, MutexGuard};

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
    pub(super) dirty: AtomicBool,
    pub(super) used: AtomicBool,
}

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
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Mapping {
        match self.layout {
            L2Layout::Standard => {
                Mapping::standard(L2Entry::from_bits(self.words[index].load(Ordering::Acquire)))
            }
            L2Layout::Extended => self.get_pair(index),
        }
    }

    #[inline]
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

    #[inline]
    fn load_pair(&self, index: usize) -> Mapping {
        let entry = self.words[index * 2].load(Ordering::Relaxed);
        let bitmap = self.words[index * 2 + 1].load(Ordering::Relaxed);
        Mapping::extended(L2Entry::from_bits(entry), L2Bitmap::from_bits(bitmap))
    }

    pub(super) fn set(&self, index: usize, mapping: Mapping) {
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

    pub(super) fn is_free(slice: &Arc<Self>) -> bool {
        // The cache holds one; others can only be made under the shard's lock.
        let unheld = Arc::strong_count(slice) == 1;
        // What the last holder did before letting go is seen from here on: counting alone does not
        // promise that.
        fence(Ordering::Acquire);
        unheld && !slice.dirty.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
