//! `MemoryStorage`: a sparse object in memory.

use core::ops::Range;
use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::range::{checked_end, total_len};
use crate::{Alignment, Extent, FileId, Lock, Operation, Result, Storage};

/// Unit of memory that is allocated or a hole, in bytes: what most file systems use.
const PAGE_BYTES: u64 = 4096;

/// Source of identities. Only uniqueness matters, so no order is needed between threads.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A growable object in memory. Holes cost nothing, so a length of many TiB is cheap.
///
/// Nothing outside can reach it: locks are accepted and mean nothing, and `sync` has nothing to
/// do. What is lost in a power cut is modelled elsewhere.
///
/// ```
/// use block_io::{MemoryStorage, Storage};
///
/// let disk = MemoryStorage::new();
/// disk.set_len(1 << 40)?;
/// disk.write_at(1 << 39, b"halfway")?;
/// assert_eq!(disk.allocated_bytes()?, 4096);
/// # Ok::<(), block_io::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryStorage {
    number: u64,
    pages: RwLock<Pages>,
}

/// Lock order: the directory first, then one page at a time. Holding the directory shared is
/// enough to read, and to write pages that exist; anything that adds or removes pages or moves
/// the end holds it exclusively.
#[derive(Debug, Default)]
struct Pages {
    len: u64,
    by_index: BTreeMap<u64, RwLock<Page>>,
}

/// Bytes of one page; bytes past the end of the object are always zero. Copies of an object share
/// a page until one of them writes to it.
struct Page(Arc<[u8]>);

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Page")
    }
}

impl Page {
    fn zeroed() -> Self {
        Self(Arc::new([0; PAGE_BYTES as usize]))
    }

    /// The bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8] {
        Arc::make_mut(&mut self.0)
    }
}

/// The part of a request that falls into one page.
struct Piece {
    index: u64,
    within: Range<usize>,
}

/// Cuts a range of the object at page boundaries, ascending.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Piece> {
    let mut offset = range.start;
    core::iter::from_fn(move || {
        if offset >= range.end {
            return None;
        }
        let index = offset / PAGE_BYTES;
        let start = offset % PAGE_BYTES;
        let len = (PAGE_BYTES - start).min(range.end - offset);
        offset += len;
        Some(Piece { index, within: start as usize..(start + len) as usize })
    })
}

impl Pages {
    /// Reads what there is; returns the number of bytes before the end.
    fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let found = self.len.saturating_sub(offset).min(buf.len() as u64);
        let mut rest = &mut buf[..found as usize];
        for Piece { index, within } in pieces(offset..offset.saturating_add(found)) {
            let (head, tail) = rest.split_at_mut(within.len());
            match self.by_index.get(&index) {
                Some(page) => head.copy_from_slice(&read_lock(page).0[within]),
                None => head.fill(0),
            }
            rest = tail;
        }
        found as usize
    }

    /// Whether the range lies before the end and in pages that exist.
    fn is_present(&self, range: Range<u64>) -> bool {
        range.end <= self.len && pieces(range).all(|piece| self.by_index.contains_key(&piece.index))
    }

    /// Writes to pages that exist; the others must have been added before.
    fn overwrite(&self, offset: u64, mut buf: &[u8]) {
        for Piece { index, within } in pieces(offset..offset + buf.len() as u64) {
            let (head, tail) = buf.split_at(within.len());
            if let Some(page) = self.by_index.get(&index) {
                write_lock(page).bytes_mut()[within].copy_from_slice(head);
            }
            buf = tail;
        }
    }

    /// Adds the missing pages of the range and moves the end behind it.
    fn add(&mut self, range: Range<u64>) {
        self.len = self.len.max(range.end);
        for Piece { index, .. } in pieces(range) {
            self.by_index.entry(index).or_insert_with(|| RwLock::new(Page::zeroed()));
        }
    }

    /// Zeroes the bytes of the range in pages that exist. Visits no others, so that a hole of
    /// any length costs nothing.
    fn zero(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let indexes = range.start / PAGE_BYTES..=(range.end - 1) / PAGE_BYTES;
        for (&index, page) in self.by_index.range(indexes) {
            let page_start = index * PAGE_BYTES;
            let start = range.start.saturating_sub(page_start);
            let end = (range.end - page_start).min(PAGE_BYTES);
            write_lock(page).bytes_mut()[start as usize..end as usize].fill(0);
        }
    }

    /// Drops the pages that lie wholly in the range.
    fn remove(&mut self, range: Range<u64>) {
        let (first, end) = (range.start.div_ceil(PAGE_BYTES), range.end / PAGE_BYTES);
        if first < end {
            let mut kept = self.by_index.split_off(&first);
            self.by_index.append(&mut kept.split_off(&end));
        }
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            // The tail of the last page must read as zeros if the object grows again.
            self.zero(len..self.len);
            self.by_index.split_off(&len.div_ceil(PAGE_BYTES));
        }
        self.len = len;
    }

    fn extent(&self, offset: u64) -> Option<Extent> {
        let rest = self.len.checked_sub(offset).filter(|&rest| rest > 0)?;
        let first = offset / PAGE_BYTES;
        let present = self.by_index.range(first..).map(|(&index, _)| index);
        let mut run_end = first;
        for index in present {
            if index != run_end {
                // A gap: before it lies a hole when nothing was seen, data otherwise.
                if run_end == first {
                    return Some(Extent::hole((index * PAGE_BYTES - offset).min(rest)));
                }
                break;
            }
            run_end += 1;
        }
        if run_end == first {
            return Some(Extent::hole(rest));
        }
        Some(Extent::data((run_end * PAGE_BYTES - offset).min(rest)))
    }
}

/// A panic of another holder cannot leave a page or the directory half changed in a way that
/// matters here, so poison is ignored.
fn read_lock<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write_lock<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { number, pages: RwLock::default() }
    }

    /// A copy of everything in the object. Meant for tests and small objects.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let pages = read_lock(&self.pages);
        let mut bytes = vec![0; usize::try_from(pages.len).unwrap_or(usize::MAX)];
        pages.read(0, &mut bytes);
        bytes
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for MemoryStorage {
    /// An object that holds a copy of `bytes`.
    fn from(bytes: &[u8]) -> Self {
        let storage = Self::new();
        {
            let mut pages = write_lock(&storage.pages);
            pages.add(0..bytes.len() as u64);
            pages.overwrite(0, bytes);
        }
        storage
    }
}

impl Clone for MemoryStorage {
    /// Another object with the same bytes and holes. Costs little: bytes are copied when one of the
    /// two is written.
    fn clone(&self) -> Self {
        let copy = Self::new();
        let pages = read_lock(&self.pages);
        let by_index = pages
            .by_index
            .iter()
            .map(|(&index, page)| (index, RwLock::new(Page(Arc::clone(&read_lock(page).0)))))
            .collect();
        *write_lock(&copy.pages) = Pages { len: pages.len, by_index };
        copy
    }
}

impl Storage for MemoryStorage {
    fn len(&self) -> Result<u64> {
        Ok(read_lock(&self.pages).len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Ok(read_lock(&self.pages).read(offset, buf))
    }

    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let pages = read_lock(&self.pages);
        let mut found = 0;
        for buf in bufs {
            found += pages.read(offset.saturating_add(found as u64), buf);
        }
        Ok(found)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.write_vectored_at(offset, &[IoSlice::new(buf)])
    }

    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
        let len = total_len(bufs.iter().map(|buf| &**buf));
        let end = checked_end(Operation::Write, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let overwrite_all = |pages: &Pages| {
            let mut at = offset;
            for buf in bufs {
                pages.overwrite(at, buf);
                at += buf.len() as u64;
            }
        };
        {
            let pages = read_lock(&self.pages);
            if pages.is_present(offset..end) {
                overwrite_all(&pages);
                return Ok(());
            }
        }
        let mut pages = write_lock(&self.pages);
        pages.add(offset..end);
        overwrite_all(&pages);
        Ok(())
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
        let end = checked_end(Operation::WriteZeroes, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let mut pages = write_lock(&self.pages);
        pages.zero(offset..end);
        pages.len = pages.len.max(end);
        Ok(())
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
        let end = checked_end(Operation::PunchHole, offset, len)?;
        let mut pages = write_lock(&self.pages);
        pages.zero(offset..end);
        pages.remove(offset..end);
        Ok(true)
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        let end = checked_end(Operation::Allocate, offset, len)?;
        if len > 0 {
            let mut pages = write_lock(&self.pages);
            pages.len = pages.len.max(end);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        checked_end(Operation::SetLen, 0, len)?;
        write_lock(&self.pages).set_len(len);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
        Ok(read_lock(&self.pages).extent(offset))
    }

    fn allocated_bytes(&self) -> Result<u64> {
        Ok(read_lock(&self.pages).by_index.len() as u64 * PAGE_BYTES)
    }

    fn alignment(&self) -> Alignment {
        Alignment::NONE
    }

    fn identity(&self) -> Result<Option<FileId>> {
        Ok(Some(FileId::Memory { number: self.number }))
    }

    fn forget_cached(&self, _offset: u64, _len: u64) {}

    fn begin_sync(&self) {}

    fn modified(&self) -> Result<Option<i64>> {
        Ok(None)
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn lock(&self, _lock: Lock) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn memory_conforms() {
        conformance::all(MemoryStorage::new);
    }

    #[test]
    fn pages_are_dropped_and_found() {
        let storage = MemoryStorage::from(&[7; 5 * 4096][..]);
        assert_eq!(storage.allocated_bytes().unwrap(), 5 * 4096);
        assert!(storage.punch_hole(4095, 8194).unwrap());
        assert_eq!(storage.allocated_bytes().unwrap(), 3 * 4096);
        let extent = |offset| storage.extent_at(offset).unwrap();
        assert_eq!(extent(0), Some(Extent::data(4096)));
        assert_eq!(extent(4096), Some(Extent::hole(8192)));
        assert_eq!(extent(4097), Some(Extent::hole(8191)));
        assert_eq!(extent(12_288), Some(Extent::data(8192)));
        let mut expected = vec![7; 5 * 4096];
        expected[4095..12_289].fill(0);
        assert_eq!(storage.to_vec(), expected);
        storage.set_len(4096).unwrap();
        assert_eq!(storage.allocated_bytes().unwrap(), 4096);
    }

    #[test]
    fn copies_are_objects_of_their_own() {
        let first = MemoryStorage::from(&b"bytes"[..]);
        let second = first.clone();
        second.write_at(0, b"B").unwrap();
        assert_eq!((first.to_vec(), second.to_vec()), (b"bytes".to_vec(), b"Bytes".to_vec()));
        assert_ne!(first.identity().unwrap(), second.identity().unwrap());
    }
}
