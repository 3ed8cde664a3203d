//! The external data file: guest data at its guest offset, in a file of its own.
//!
//! Nothing is counted there, so nothing waits to be handed out again. If the data file is a raw
//! image of its own, it holds everything the guest sees, zeros included. Otherwise given up ranges
//! are punched out, after the entries that gave them up are durable and only as long as nobody
//! has taken the range into use again.

use std::sync::{Arc, PoisonError};

use block_io::Storage;
use cluster_map::{ClusterType, ZeroMode};
use qcow2_format::GuestOffset;

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::sync::Mutex;
use crate::write::Touched;

/// Clusters that may wait to be punched out.
const HOLES_MAX: usize = 1 << 16;

/// An external data file.
#[derive(Debug)]
pub(crate) struct DataFile {
    pub(crate) storage: Arc<dyn Storage>,
    /// The file is valid as a raw image on its own, and must stay so.
    pub(crate) raw: bool,
    /// Clusters (first guest byte) that were given up since the last flush began.
    holes: Mutex<Vec<u64>>,
}

/// Given up clusters that a flush has taken over.
pub(crate) type DataHoles = Vec<u64>;

impl DataFile {
    pub(crate) fn new(storage: Arc<dyn Storage>, raw: bool) -> Self {
        Self { storage, raw, holes: Mutex::default() }
    }

    /// Whether so many holes wait for a flush that one is due.
    pub(crate) fn wants_flush(&self) -> bool {
        self.holes.lock().unwrap_or_else(PoisonError::into_inner).len() >= HOLES_MAX
    }

    fn take_holes(&self) -> DataHoles {
        std::mem::take(&mut *self.holes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Image {
    /// The storage that holds guest data: the external data file, or the image itself. Host
    /// offsets of data runs count there.
    #[must_use]
    pub fn data_storage(&self) -> &Arc<dyn Storage> {
        self.data_file.as_ref().map_or(&self.storage, |data| &data.storage)
    }

    /// Whether the data file is a raw image of its own. Overlapping requests must then not pass each
    /// other, not even where no entry changes: what one writes and another makes zeros has to come
    /// out the same in both views.
    pub(crate) fn keeps_a_raw_image(&self) -> bool {
        self.data_file.as_ref().is_some_and(|data| data.raw)
    }

    /// Makes the touched bytes zeros in a data file that is a raw image. Before the entry says
    /// so: a crash in between leaves zeros that were asked for.
    pub(crate) fn zero_data_file(&self, touched: Touched, mode: ZeroMode) -> Result<()> {
        let Some(data) = self.data_file.as_ref().filter(|data| data.raw) else { return Ok(()) };
        let len = touched.end - touched.start;
        let zeroed = match mode {
            ZeroMode::Unmap if matches!(data.storage.punch_hole(touched.start, len), Ok(true)) => {
                Ok(())
            }
            _ => data.storage.write_zeroes_at(touched.start, len),
        };
        self.note_data_written();
        zeroed.map_err(Error::storage(Purpose::Data))
    }

    /// Notes that a cluster of the data file is no longer in use.
    pub(crate) fn note_data_hole(&self, touched: Touched, old: ClusterType) {
        let Some(data) = self.data_file.as_ref().filter(|data| !data.raw) else { return };
        if matches!(old, ClusterType::Normal { .. } | ClusterType::ZeroAllocated { .. }) {
            data.holes.lock().unwrap_or_else(PoisonError::into_inner).push(touched.cluster);
        }
    }

    /// Takes the clusters given up so far. Call before the entries are gathered for writing.
    pub(crate) fn take_data_holes(&self) -> DataHoles {
        self.data_file.as_ref().map(DataFile::take_holes).unwrap_or_default()
    }

    /// Punches given up clusters out of the data file. Nothing on disk points there any more; a
    /// cluster that is being taken into use again, or was, is left alone.
    pub(crate) fn punch_data_holes(&self, holes: &[u64]) {
        let cluster_bytes = self.geometry().cluster_bytes();
        let Some(data) = &self.data_file else { return };
        for &cluster in holes {
            let Some(_held) = self.in_flight.try_hold(cluster, cluster + cluster_bytes) else {
                continue;
            };
            let guest = GuestOffset::new(cluster);
            // Space that is not given back is not worth an error, neither here nor below.
            let unused = self.mapping(guest).and_then(|mapping| self.cluster_type(guest, mapping));
            let unused = matches!(unused, Ok(ClusterType::Unallocated | ClusterType::ZeroPlain));
            // The last cluster may reach past the end of the disk, where the file ends.
            let len = cluster_bytes.min(self.virtual_size().saturating_sub(cluster));
            if unused && len > 0 {
                let _ = data.storage.punch_hole(cluster, len);
            }
        }
    }
}
