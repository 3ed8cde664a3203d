//! A raw layer: the bytes of the disk as they are.

use std::sync::Arc;

use block_io::{Result, Storage, StorageExt};

/// Unit in which disks are presented.
const SECTOR_BYTES: u64 = 512;

/// A raw disk. A length that does not fill its last sector is presented rounded up; the rest of
/// that sector reads as zeros.
#[derive(Debug)]
pub(crate) struct RawDisk {
    storage: Arc<dyn Storage>,
    virtual_size: u64,
}

impl RawDisk {
    /// Takes a storage as it is.
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Result<Self> {
        let virtual_size = storage.len()?.next_multiple_of(SECTOR_BYTES);
        Ok(Self { storage, virtual_size })
    }

    /// Size of the disk in bytes, a multiple of 512.
    pub(crate) const fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// The storage.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.storage.read_zero_filled(offset, buf).map(drop)
    }

    /// What lies at `offset` inside the disk: whether it is a hole, and for how many bytes.
    pub(crate) fn hole_at(&self, offset: u64, len: u64) -> Result<(bool, u64)> {
        let Some(extent) = self.storage.extent_at(offset)? else { return Ok((true, len)) };
        Ok((extent.is_hole(), extent.len.min(len)))
    }
}
