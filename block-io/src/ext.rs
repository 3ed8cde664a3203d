//! `StorageExt`: reads that callers want and implementors need not write.

use std::io::IoSliceMut;

use crate::range::total_len;
use crate::{Error, Result, Storage};

/// Conveniences on top of [`Storage`]. Every storage has them; nobody can write their own.
pub trait StorageExt: Storage + sealed::Sealed {
    /// Reads exactly `buf.len()` bytes at byte `offset`.
    ///
    /// # Errors
    /// [`Error::ShortRead`] when the object ends earlier; otherwise as for
    /// [`read_at`](Storage::read_at).
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let (wanted, found) = (buf.len(), self.read_at(offset, buf)?);
        if found < wanted {
            return Err(Error::ShortRead { offset, wanted: wanted as u64, found: found as u64 });
        }
        Ok(())
    }

    /// Fills `buf` from byte `offset`; what lies past the end of the object reads as zeros.
    /// Returns how many bytes came from the object.
    ///
    /// # Errors
    /// As for [`read_at`](Storage::read_at).
    fn read_zero_filled(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let found = self.read_at(offset, buf)?;
        if let Some(rest) = buf.get_mut(found..) {
            rest.fill(0);
        }
        Ok(found)
    }

    /// Like [`read_zero_filled`](StorageExt::read_zero_filled), scattering into several buffers
    /// in order.
    ///
    /// # Errors
    /// As for [`read_at`](Storage::read_at).
    fn read_zero_filled_vectored(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize> {
        let found = self.read_vectored_at(offset, bufs)?;
        let mut left = found;
        for buf in bufs {
            let kept = left.min(buf.len());
            if let Some(rest) = buf.get_mut(kept..) {
                rest.fill(0);
            }
            left -= kept;
        }
        Ok(found)
    }

    /// Like [`read_exact_at`](StorageExt::read_exact_at), scattering into several buffers in
    /// order.
    ///
    /// # Errors
    /// As for [`read_exact_at`](StorageExt::read_exact_at).
    fn read_exact_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<()> {
        let wanted = total_len(bufs.iter().map(|buf| &**buf));
        let found = self.read_vectored_at(offset, bufs)? as u64;
        if found < wanted {
            return Err(Error::ShortRead { offset, wanted, found });
        }
        Ok(())
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}

mod sealed {
    pub trait Sealed {}
    impl<S: crate::Storage + ?Sized> Sealed for S {}
}
