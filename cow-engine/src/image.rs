//! `Image`: one open qcow2 image.

use std::sync::Arc;

use block_io::Storage;
use cluster_map::Dialect;
use qcow2_format::{CompressionType, Geometry, Header};
use static_assertions::assert_impl_all;

use crate::allocator::Allocator;
use crate::backing::Backing;
use crate::compression::ClusterCache;
use crate::data_file::DataFile;
use crate::error::{Error, Result};
use crate::flush::{FlushPlan, FlushQueue};
use crate::in_flight::InFlight;
use crate::l1_table::L1Table;
use crate::marks::Marks;
use crate::metadata_map::MetadataMap;
use crate::pins::Pins;
use crate::poison::Poison;
use crate::slice_cache::SliceCache;
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// One open qcow2 image.
///
/// All operations take `&self` and may run on many threads. Writes are visible to reads at once
/// and durable after [`flush`](Image::flush). Dropping a writable image flushes as far as it can;
/// call [`close`](Image::close) to learn whether that worked.
#[derive(Debug)]
pub struct Image {
    pub(crate) storage: Arc<dyn Storage>,
    /// Where guest data lies, if not in `storage`.
    pub(crate) data_file: Option<DataFile>,
    pub(crate) header: Header,
    pub(crate) dialect: Dialect,
    pub(crate) backing: Option<Arc<dyn Backing>>,
    pub(crate) l1: L1Table,
    pub(crate) slices: SliceCache,
    /// A slice has `1 << slice_entry_bits` entries.
    pub(crate) slice_entry_bits: u32,
    pub(crate) decompressed: ClusterCache,
    pub(crate) in_flight: InFlight,
    pub(crate) pins: Pins,
    pub(crate) poison: Arc<Poison>,
    pub(crate) flushes: FlushQueue,
    /// Something was written since the last sync began.
    pub(crate) unsynced: AtomicBool,
    /// The same for an external data file.
    pub(crate) data_unsynced: AtomicBool,
    /// What only a writable image has.
    pub(crate) writer: Option<Writer>,
}

assert_impl_all!(Image: Send, Sync);

/// What only a writable image has.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) allocator: Allocator,
    pub(crate) map: MetadataMap,
    pub(crate) marks: Marks,
    /// Counts need not reach the disk before the image is closed.
    pub(crate) lazy_refcounts: bool,
}

impl Image {
    /// Size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.header.virtual_size()
    }

    /// The header as it was when the image was opened, with the size and the L1 table of today.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Cluster size and table shapes.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.dialect.geometry()
    }

    /// How L2 entries of this image are to be understood.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How compressed clusters of this image are compressed.
    #[must_use]
    pub fn compression_type(&self) -> CompressionType {
        self.header.compression_type()
    }

    /// The storage that holds the image.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether writes are refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.writer.is_none()
    }

    /// The parts needed for writing, if the image may be written.
    pub(crate) fn writer(&self) -> Result<&Writer> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        writer.marks.check()?;
        self.poison.check()?;
        Ok(writer)
    }

    /// Notes that something was written to the image file. Call after the write has completed: a
    /// flush that begins later then knows that it has to sync.
    pub(crate) fn note_written(&self) {
        raise(&self.unsynced);
    }

    /// Notes that guest data was written, wherever it lies.
    pub(crate) fn note_data_written(&self) {
        raise(if self.data_file.is_some() { &self.data_unsynced } else { &self.unsynced });
    }

    /// Refuses a range outside the disk.
    pub(crate) fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.virtual_size();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(()),
            _ => Err(Error::OutOfRange { offset, len, size }),
        }
    }

    /// Flushes and gives the image up.
    ///
    /// # Errors
    /// As for [`flush`](Image::flush); what was not flushed is then lost.
    pub fn close(mut self) -> Result<()> {
        let result = self.flush_for_good(&mut |_| {});
        self.writer = None;
        result
    }

    /// Closes like [`close`](Image::close) and returns what was written, flush by flush: for tests
    /// and for people.
    ///
    /// # Errors
    /// As for [`close`](Image::close).
    pub fn close_traced(mut self) -> Result<Vec<FlushPlan>> {
        let mut plans = Vec::new();
        let result = self.flush_for_good(&mut |plan| plans.push(plan));
        self.writer = None;
        result.map(|()| plans)
    }
}

/// Raises a flag. Pairs with the fence of the flush: either it sees the write, or we see that it
/// has taken the flag down. Looking first keeps writers from fighting for the cache line.
fn raise(flag: &AtomicBool) {
    fence(Ordering::SeqCst);
    if !flag.load(Ordering::Acquire) {
        flag.store(true, Ordering::Release);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nobody is left to tell; `close` is there for those who want to know.
        let _ = self.flush_for_good(&mut |_| {});
    }
}
