//! References, boxes and shared pointers to a storage are storages, by forwarding every duty.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use crate::{Alignment, Extent, FileId, Lock, Result, Storage};

macro_rules! forward {
    ($($pointer:ty),+) => { $(
        impl<S: Storage + ?Sized> Storage for $pointer {
            fn len(&self) -> Result<u64> {
                (**self).len()
            }
            fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
                (**self).read_at(offset, buf)
            }
            fn read_vectored_at(
                &self,
                offset: u64,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Result<usize> {
                (**self).read_vectored_at(offset, bufs)
            }
            fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
                (**self).write_at(offset, buf)
            }
            fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()> {
                (**self).write_vectored_at(offset, bufs)
            }
            fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()> {
                (**self).write_zeroes_at(offset, len)
            }
            fn punch_hole(&self, offset: u64, len: u64) -> Result<bool> {
                (**self).punch_hole(offset, len)
            }
            fn allocate(&self, offset: u64, len: u64) -> Result<()> {
                (**self).allocate(offset, len)
            }
            fn set_len(&self, len: u64) -> Result<()> {
                (**self).set_len(len)
            }
            fn sync(&self) -> Result<()> {
                (**self).sync()
            }
            fn extent_at(&self, offset: u64) -> Result<Option<Extent>> {
                (**self).extent_at(offset)
            }
            fn allocated_bytes(&self) -> Result<u64> {
                (**self).allocated_bytes()
            }
            fn alignment(&self) -> Alignment {
                (**self).alignment()
            }
            fn identity(&self) -> Result<Option<FileId>> {
                (**self).identity()
            }
            fn forget_cached(&self, offset: u64, len: u64) {
                (**self).forget_cached(offset, len);
            }
            fn begin_sync(&self) {
                (**self).begin_sync();
            }
            fn modified(&self) -> Result<Option<i64>> {
                (**self).modified()
            }
            fn is_read_only(&self) -> bool {
                (**self).is_read_only()
            }
            fn lock(&self, lock: Lock) -> Result<()> {
                (**self).lock(lock)
            }
        }
    )+ };
}

forward!(&S, Box<S>, Arc<S>);
