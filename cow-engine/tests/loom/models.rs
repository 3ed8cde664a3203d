//! Models under weak memory, of the few lines whose orderings are weaker than the strongest: the two
//! words of an extended entry, and eviction beside somebody who changes a slice. Every execution that
//! the orderings allow is tried. Built and run by `cargo xtask models`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use ::loom::thread;
use ::std::sync::Arc as Shared;
use cluster_map::Mapping;
use qcow2_format::{L2Bitmap, L2Entry, L2Layout};

use crate::slice_cache::{Slice, SliceCache};
use crate::sync::Arc;

/// Bytes of the slices here, for the budget.
const BYTES: u64 = 64;

/// An entry whose words belong together.
fn pair(value: u64) -> Mapping {
    Mapping::extended(L2Entry::from_bits(value), L2Bitmap::from_bits(!value))
}

fn empty(layout: L2Layout) -> Slice {
    Slice::new(layout, [0, u64::MAX, 0, u64::MAX].into_iter())
}

fn load(cache: &SliceCache, number: u64, layout: L2Layout) -> Arc<Slice> {
    match cache.get(number) {
        Ok(slice) => slice,
        Err(ticket) => cache.insert(number, empty(layout), ticket).unwrap(),
    }
}

/// All executions with so many switches that nothing but the order of steps calls for.
fn check(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

#[test]
fn an_extended_entry_is_seen_whole() {
    check(3, || {
        let cache = Shared::new(SliceCache::new(0, BYTES, u64::MAX));
        let slice = load(&cache, 0, L2Layout::Extended);
        let writer = {
            let (cache, slice) = (Shared::clone(&cache), slice.clone());
            thread::spawn(move || {
                cache.publish(0, &slice, 0, pair(1));
                cache.publish(0, &slice, 0, pair(2));
            })
        };
        let mut last = 0;
        for _ in 0..2 {
            let seen = slice.get(0);
            assert_eq!(seen.entry.bits(), !seen.bitmap.bits(), "a torn pair");
            assert!(seen.entry.bits() >= last, "an entry went back");
            last = seen.entry.bits();
        }
        writer.join().unwrap();
        assert_eq!(slice.get(0), pair(2));
    });
}

#[test]
fn a_copy_for_the_disk_has_whole_entries() {
    check(3, || {
        let cache = Shared::new(SliceCache::new(0, BYTES, u64::MAX));
        let slice = load(&cache, 0, L2Layout::Extended);
        let writer = {
            let (cache, slice) = (Shared::clone(&cache), slice.clone());
            thread::spawn(move || cache.publish(0, &slice, 0, pair(1)))
        };
        let bytes = slice.bytes();
        let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(word(0), !word(8), "a torn pair on its way to the disk");
        writer.join().unwrap();
    });
}

#[test]
fn an_entry_brings_along_what_was_written_before_it() {
    use crate::sync::atomic::{AtomicU64, Ordering};
    check(3, || {
        let cache = Shared::new(SliceCache::new(0, BYTES, u64::MAX));
        let slice = load(&cache, 0, L2Layout::Extended);
        let data = Shared::new(AtomicU64::new(0));
        let writer = {
            let (cache, slice) = (Shared::clone(&cache), slice.clone());
            let data = Shared::clone(&data);
            thread::spawn(move || {
                data.store(7, Ordering::Relaxed);
                cache.publish(0, &slice, 0, pair(1));
            })
        };
        if slice.get(0) == pair(1) {
            assert_eq!(data.load(Ordering::Relaxed), 7, "the entry came before its data");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_slice_that_was_changed_is_not_evicted() {
    check(2, || {
        let cache = Shared::new(SliceCache::new(0, BYTES, u64::MAX));
        // Full, and this slice is the first to go: nobody has asked for it since it was loaded.
        let slice = load(&cache, 0, L2Layout::Standard);
        for number in 1..4 {
            drop(load(&cache, number * 2, L2Layout::Standard));
        }
        let writer = {
            let cache = Shared::clone(&cache);
            thread::spawn(move || {
                cache.publish(0, &slice, 0, Mapping::standard(L2Entry::from_bits(5)));
                drop(slice);
            })
        };
        drop(load(&cache, 8, L2Layout::Standard));
        writer.join().unwrap();
        let slice = cache.get(0).unwrap_or_else(|_| panic!("evicted with a change in it"));
        assert_eq!(slice.get(0).entry.bits(), 5);
    });
}

#[test]
fn a_flush_finds_what_was_published() {
    check(2, || {
        let cache = Shared::new(SliceCache::new(0, BYTES, u64::MAX));
        let slice = load(&cache, 0, L2Layout::Standard);
        let writer = {
            let (cache, slice) = (Shared::clone(&cache), slice.clone());
            thread::spawn(move || {
                cache.publish(0, &slice, 0, Mapping::standard(L2Entry::from_bits(5)));
                cache.publish(0, &slice, 1, Mapping::standard(L2Entry::from_bits(6)));
            })
        };
        let early = cache.take_dirty();
        early.are_written();
        writer.join().unwrap();
        let late = cache.take_dirty();
        let copies = late.copies();
        let written = copies.first().map(|(_, bytes)| bytes.clone());
        let bytes = written.unwrap_or_else(|| slice.bytes());
        assert_eq!(bytes[8..16], 6_u64.to_be_bytes());
        late.are_written();
    });
}
