//! The cache of slices between a disk that forgets nothing and threads that change entries.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster_map::Mapping;
use qcow2_format::{L2Bitmap, L2Entry, L2Layout};
use shuttle::thread;

use crate::models::explore::{SOME, explore};
use crate::slice_cache::{Slice, SliceCache};
use crate::sync::Arc;

/// Bytes of a slice: two extended entries.
const BYTES: usize = 32;

/// Tables on disk and their cache. Entries only ever grow.
struct Tables {
    cache: SliceCache,
    disk: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// What the first entry of each slice was at least made.
    floors: Vec<AtomicU64>,
}

impl Tables {
    fn new(slices: usize) -> Self {
        let floors = (0..slices).map(|_| AtomicU64::new(0)).collect();
        Self { cache: SliceCache::new(0, BYTES as u64, u64::MAX), disk: Mutex::default(), floors }
    }

    fn slice(&self, number: u64) -> Arc<Slice> {
        loop {
            let ticket = match self.cache.get(number) {
                Ok(slice) => return slice,
                Err(ticket) => ticket,
            };
            thread::yield_now();
            let bytes = self.disk.lock().unwrap().get(&number).cloned();
            let bytes = bytes.unwrap_or_else(|| vec![0; BYTES]);
            thread::yield_now();
            let (words, _) = bytes.as_chunks::<8>();
            let words = words.iter().map(|word| u64::from_be_bytes(*word));
            let slice = Slice::new(L2Layout::Extended, words);
            if let Some(slice) = self.cache.insert(number, slice, ticket) {
                return slice;
            }
        }
    }

    fn read(&self, number: u64) {
        let floor = self.floors[number as usize].load(Ordering::Relaxed);
        let seen = self.slice(number).get(0);
        let (entry, bitmap) = (seen.entry.bits(), seen.bitmap.bits());
        assert_eq!(entry, bitmap, "a pair of slice {number} is torn");
        assert!(entry >= floor, "slice {number} forgot {floor}, it says {entry}");
    }

    /// Only one thread for each slice.
    fn change(&self, number: u64, value: u64) {
        let (entry, bitmap) = (L2Entry::from_bits(value), L2Bitmap::from_bits(value));
        let slice = self.slice(number);
        self.cache.publish(number, &slice, 0, Mapping::extended(entry, bitmap));
        drop(slice);
        self.floors[number as usize].store(value, Ordering::Relaxed);
    }

    /// Only one thread at a time.
    fn flush(&self) {
        let floors: Vec<u64> =
            self.floors.iter().map(|floor| floor.load(Ordering::Relaxed)).collect();
        let dirty = self.cache.take_dirty();
        for (number, bytes) in dirty.copies() {
            thread::yield_now();
            self.disk.lock().unwrap().insert(*number, bytes.clone());
        }
        dirty.are_written();
        let disk = self.disk.lock().unwrap();
        for (number, floor) in floors.iter().enumerate() {
            let bytes = disk.get(&(number as u64));
            let entry = bytes.map_or(0, |bytes| u64::from_be_bytes(bytes[..8].try_into().unwrap()));
            assert!(entry >= *floor, "slice {number} was not written: {entry} for {floor}");
        }
    }
}

#[test]
fn no_change_is_forgotten_under_pressure() {
    explore(SOME, || {
        let tables = Tables::new(14);
        thread::scope(|scope| {
            scope.spawn(|| {
                tables.change(0, 1);
                tables.change(2, 1);
                tables.change(0, 2);
                tables.read(0);
            });
            scope.spawn(|| (2..14).for_each(|number| tables.read(number)));
            scope.spawn(|| {
                tables.read(0);
                tables.flush();
                tables.read(2);
                tables.flush();
                tables.read(0);
            });
        });
        (1..14).for_each(|number| tables.read(number));
        tables.read(0);
        tables.flush();
    });
}

#[test]
fn two_publish_into_one_slice_beside_a_flush() {
    explore(SOME, || {
        let tables = Tables::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                tables.change(0, 1);
                tables.change(0, 2);
            });
            scope.spawn(|| {
                let slice = tables.slice(0);
                let mapping = Mapping::extended(L2Entry::from_bits(9), L2Bitmap::from_bits(9));
                tables.cache.publish(0, &slice, 1, mapping);
            });
            scope.spawn(|| {
                tables.flush();
                tables.flush();
            });
        });
        tables.flush();
        let bytes = tables.disk.lock().unwrap()[&0].clone();
        assert_eq!(bytes[16..24], 9_u64.to_be_bytes());
    });
}
