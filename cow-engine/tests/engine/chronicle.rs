//! A chronicle of writes, sector by sector, and what a read may see: the last write that ended, or one
//! that nothing has followed yet.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use cow_engine::Image;
use testkit::stamps::{SECTOR, stamps};

/// A write of one sector, from a moment to a moment.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    stamp: u64,
    begun: u64,
    /// `u64::MAX` while it is under way.
    ended: u64,
}

/// Who wrote what, and when.
pub(crate) struct Chronicle {
    clock: AtomicU64,
    sectors: Vec<Mutex<Vec<Write>>>,
}

impl Chronicle {
    /// Each sector begins with a stamp.
    pub(crate) fn new(start: &[u64]) -> Self {
        let sectors = start
            .iter()
            .map(|&stamp| Mutex::new(vec![Write { number: 0, stamp, begun: 0, ended: 0 }]));
        Self { clock: AtomicU64::new(1), sectors: sectors.collect() }
    }

    /// How many sectors there are.
    pub(crate) fn len(&self) -> usize {
        self.sectors.len()
    }

    /// The next moment.
    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes that a write begins; returns its number.
    pub(crate) fn begin(&self, first: usize, count: usize, stamp: u64) -> u64 {
        let begun = self.now();
        for sector in &self.sectors[first..first + count] {
            sector.lock().unwrap().push(Write { number: begun, stamp, begun, ended: u64::MAX });
        }
        begun
    }

    /// The write with this number is over.
    pub(crate) fn end(&self, first: usize, count: usize, number: u64) {
        let ended = self.now();
        for sector in &self.sectors[first..first + count] {
            let mut writes = sector.lock().unwrap();
            writes.iter_mut().find(|write| write.number == number).unwrap().ended = ended;
        }
    }

    /// It was refused: nothing has happened.
    pub(crate) fn forget(&self, first: usize, count: usize, number: u64) {
        for sector in &self.sectors[first..first + count] {
            sector.lock().unwrap().retain(|write| write.number != number);
        }
    }

    /// Complains about a sector that shows something which was overwritten before the read began.
    pub(crate) fn check(&self, first: usize, found: &[u64], read_begun: u64) {
        for (index, &stamp) in found.iter().enumerate() {
            let writes = self.sectors[first + index].lock().unwrap();
            let settled = writes.iter().filter(|write| write.ended < read_begun);
            // What ended before the beginning of another one that is over is gone.
            let floor = settled.map(|write| write.begun).max().unwrap_or(0);
            let possible = |write: &Write| write.stamp == stamp && write.ended >= floor;
            assert!(
                writes.iter().any(possible),
                "sector {}: {stamp:#x} at {read_begun}, {writes:x?}",
                first + index
            );
        }
    }

    /// Leaves out what no read that begins from now on may see.
    pub(crate) fn forget_the_past(&self) {
        for sector in &self.sectors {
            let mut writes = sector.lock().unwrap();
            let ended = writes.iter().filter(|write| write.ended != u64::MAX);
            let floor = ended.map(|write| write.begun).max().unwrap_or(0);
            writes.retain(|write| write.ended >= floor);
        }
    }

    /// Reads from an image, and checks.
    pub(crate) fn read(&self, image: &Image, first: usize, count: usize) {
        let begun = self.now();
        let mut bytes = vec![0xaa; count * SECTOR];
        image.read_at((first * SECTOR) as u64, &mut bytes).unwrap();
        self.check(first, &stamps(&bytes, first).unwrap(), begun);
    }
}
