//! A raw layer: the bytes of the disk as they are.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use block_io::{Result, Storage, StorageExt};
use cow_engine::Preallocation;

/// Unit in which disks are presented.
const SECTOR_BYTES: u64 = 512;

/// Zeros that are written at once.
const ZERO_BYTES: usize = 1 << 20;

/// A raw disk. A length that does not fill its last sector is presented rounded up; the rest of
/// that sector reads as zeros.
#[derive(Debug)]
pub(crate) struct RawDisk {
    storage: Arc<dyn Storage>,
    virtual_size: u64,
    /// A range that was seen to hold data. Only of use while nobody writes here.
    seen_data: Mutex<Range<u64>>,
}

impl RawDisk {
    /// Takes a storage as it is.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Result<Self> {
        let virtual_size = storage.len()?.next_multiple_of(SECTOR_BYTES);
        Ok(Self { storage, virtual_size, seen_data: Mutex::new(0..0) })
    }

    /// Size of the disk in bytes, a multiple of 512.
    pub(crate) const fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Gives the disk another size in bytes, durably. What it grows by reads as zeros, in host
    /// space as asked; if that is not to be had, the old size stays.
    pub(crate) fn resize(&mut self, size: u64, how: Preallocation) -> Result<()> {
        let present = self.storage.len()?;
        let resized = self.set_len(present, size, how);
        if resized.is_err() && size > present {
            // The first failure is the one to tell.
            let _ = self.storage.set_len(present);
        }
        resized?;
        self.virtual_size = self.storage.len()?.next_multiple_of(SECTOR_BYTES);
        *self.seen() = 0..0;
        Ok(())
    }

    fn set_len(&self, present: u64, size: u64, how: Preallocation) -> Result<()> {
        match how {
            Preallocation::Off | Preallocation::Metadata => self.storage.set_len(size)?,
            Preallocation::Falloc => {
                self.storage.allocate(present, size.saturating_sub(present))?;
            }
            Preallocation::Full => {
                let zeros = vec![0; ZERO_BYTES];
                let mut at = present;
                while at < size {
                    let step = (size - at).min(ZERO_BYTES as u64);
                    self.storage.write_at(at, &zeros[..step as usize])?;
                    at += step;
                }
            }
        }
        self.storage.sync()
    }

    /// The storage.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.storage.read_zero_filled(offset, buf).map(drop)
    }

    /// Whether `offset` was seen to hold data, in a layer that nobody writes to. Whoever copies old
    /// bytes asks for each cluster, and the host takes its time to answer.
    pub(crate) fn has_shown_data(&self, offset: u64) -> bool {
        self.seen().contains(&offset)
    }

    fn seen(&self) -> MutexGuard<'_, Range<u64>> {
        self.seen_data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What lies at `offset` inside the disk: whether it is a hole, and for how many bytes.
    pub(crate) fn hole_at(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        let Some(extent) = self.storage.extent_at(offset)? else { return Ok((true, len)) };
        if !extent.is_hole() {
            self.remember(offset..offset.saturating_add(extent.len));
        }
        Ok((extent.is_hole(), extent.len.min(len)))
    }

    /// Notes a range of data, together with what is known if they touch, else instead of it.
    fn remember(&self, data: Range<u64>) {
        let mut seen = self.seen();
        if data.start <= seen.end && seen.start <= data.end {
            *seen = seen.start.min(data.start)..seen.end.max(data.end);
        } else {
            *seen = data;
        }
    }
}
