//! What lies under an image, as the engine sees it: guest bytes, nothing else.

use core::fmt::Debug;
use std::sync::Arc;

/// Failure of the layer below, whatever it is made of.
pub type BelowError = Arc<dyn core::error::Error + Send + Sync>;

/// The layer below an image. It does not change while the image is open.
pub trait Backing: Debug + Send + Sync {
    /// Size of the layer's virtual disk in bytes.
    fn virtual_size(&self) -> u64;

    /// Fills `buf` with guest bytes from `offset` on; bytes beyond the end of the layer's disk
    /// are zeros.
    ///
    /// # Errors
    /// The layer could not be read.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError>;

    /// Whether the range is known to read as zeros without reading it. `false` means "unknown".
    ///
    /// # Errors
    /// The layer's tables could not be read.
    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError>;
}
