//! Bounds of a request: every end must be a file position the host can name.

use crate::{Error, Operation, Result};

/// Largest position a host can name (`off_t`).
pub(crate) const POSITION_MAX: u64 = i64::MAX as u64;

/// End of the range, or the error that names the range.
pub(crate) fn checked_end(operation: Operation, offset: u64, len: u64) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= POSITION_MAX => Ok(end),
        _ => Err(Error::OutOfRange { operation, offset, len }),
    }
}

/// Total length of a vectored request. Slices live in one address space, so the sum of
/// distinct ones fits; repeated ones saturate and are then refused as out of range.
pub(crate) fn total_len<'a>(bufs: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    bufs.into_iter().fold(0u64, |sum, buf| sum.saturating_add(buf.len() as u64))
}
