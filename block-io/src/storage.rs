//! The `Storage` trait: one host object that holds bytes, seen from the consumer's side.
//!
//! No method has a default body: every implementation and every wrapper states each duty
//! itself, so that a new duty cannot be forgotten silently.

use core::fmt::Debug;
use std::io::{IoSlice, IoSliceMut};

use crate::{Alignment, Extent, FileId, Lock, Result};

/// A host object that stores bytes at positions: a file, memory, later a ring or a bucket.
///
/// All methods take `&self` and may be called from many threads at once. Writes to disjoint
/// ranges do not disturb each other; the outcome of overlapping concurrent writes is one of
/// the two for each 512-byte sector.
///
/// Durability: what a write, punch, zero or length change did is only promised to survive a
/// power cut after a later [`sync`](Storage::sync) has returned success.
#[expect(clippy::len_without_is_empty, reason = "emptiness of a disk interests nobody")]
pub trait Storage: Debug + Send + Sync {
    /// Current length in bytes.
    ///
    /// # Errors
    /// The host refused to tell.
    fn len(&self) -> Result<u64>;

    /// Reads into `buf` from byte `offset` and returns how many bytes were read.
    ///
    /// The answer is short only where the object ends: an implementation retries partial and
    /// interrupted host calls itself. Beyond the end it is 0.
    ///
    /// # Errors
    /// The host reported a failure; the content of `buf` is then unspecified.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Like [`read_at`](Storage::read_at), scattering into several buffers in order.
    ///
    /// # Errors
    /// As for [`read_at`](Storage::read_at).
    fn read_vectored_at(&self, offset: u64, bufs: &mut [IoSliceMut<'_>]) -> Result<usize>;

    /// Writes all of `buf` at byte `offset`, growing the object if it ends earlier.
    ///
    /// # Errors
    /// The host reported a failure; any part of `buf` may have been written.
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()>;

    /// Like [`write_at`](Storage::write_at), gathering from several buffers in order.
    ///
    /// # Errors
    /// As for [`write_at`](Storage::write_at).
    fn write_vectored_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> Result<()>;

    /// Makes the range read as zeros, growing the object if it ends earlier; keeps host space
    /// reserved where the host can. Falls back to writing zeros.
    ///
    /// # Errors
    /// As for [`write_at`](Storage::write_at).
    fn write_zeroes_at(&self, offset: u64, len: u64) -> Result<()>;

    /// Gives host space of the range back; the range then reads as zeros. Never grows the
    /// object. A host that cannot do this leaves the bytes as they are and returns `false`.
    ///
    /// # Errors
    /// The host reported a failure other than "not supported".
    fn punch_hole(&self, offset: u64, len: u64) -> Result<bool>;

    /// Reserves host space for the range, growing the object if it ends earlier. Existing
    /// bytes stay. A host that cannot reserve only grows the object.
    ///
    /// # Errors
    /// No space, or the host reported another failure.
    fn allocate(&self, offset: u64, len: u64) -> Result<()>;

    /// Cuts or extends the object to `len` bytes; new bytes read as zeros. An object of fixed
    /// size, such as a block device, accepts any length up to its own and keeps its own.
    ///
    /// # Errors
    /// As for [`write_at`](Storage::write_at).
    fn set_len(&self, len: u64) -> Result<()>;

    /// Makes everything that completed before this call durable (`fdatasync`).
    ///
    /// # Errors
    /// The host could not promise durability. What was lost is unknown; do not retry.
    fn sync(&self) -> Result<()>;

    /// Says that nobody will read this range again soon: the host may drop what it keeps of it in
    /// memory. Changes nothing; may do nothing.
    fn forget_cached(&self, offset: u64, len: u64);

    /// Begins to make everything that was written durable, without waiting: a later
    /// [`sync`](Storage::sync) then has less to do. Promises nothing; may do nothing.
    fn begin_sync(&self);

    /// What lies at `offset`: data or a hole, and for how many bytes from there. `None` at or
    /// beyond the end. A host without an answer reports everything up to the end as data.
    ///
    /// # Errors
    /// The host reported a failure.
    fn extent_at(&self, offset: u64) -> Result<Option<Extent>>;

    /// Bytes of host space in use, at most; what `du` would say.
    ///
    /// # Errors
    /// The host reported a failure.
    fn allocated_bytes(&self) -> Result<u64>;

    /// What request offsets, lengths and buffers must be multiples of. `1` everywhere for
    /// buffered files and memory; callers may ignore it, it is then bounced here.
    fn alignment(&self) -> Alignment;

    /// Identity of the object on this host, equal for two handles on the same object; `None`
    /// where there is no such thing. Loops in chains are found by it.
    ///
    /// # Errors
    /// The host reported a failure.
    fn identity(&self) -> Result<Option<FileId>>;

    /// When the bytes were last changed, in nanoseconds since 1970 by the clock of the host, which
    /// may stand still for some milliseconds; `None` where nobody keeps a record. Only good for
    /// being compared with an earlier answer about the same object.
    ///
    /// # Errors
    /// The host reported a failure.
    fn modified(&self) -> Result<Option<i64>>;

    /// Whether writes can succeed.
    fn is_read_only(&self) -> bool;

    /// Takes, changes or drops the locks this handle holds, QEMU's byte-range protocol.
    /// Objects that nobody else can reach accept everything.
    ///
    /// # Errors
    /// [`Error::Locked`](crate::Error::Locked) when another holder excludes the request; the
    /// locks held before are then kept unchanged.
    fn lock(&self, lock: Lock) -> Result<()>;
}
