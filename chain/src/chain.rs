//! `Chain`: many images as one disk.

use std::sync::Arc;

use cow_engine::{Compressor, Image, RunKind, ZeroMode};

use crate::error::{Error, Result};
use crate::layer::{Answer, Disk, Layer};
use crate::lower::LowerLayers;
use crate::pin::{BaseFinding, BaseVerdict};
use crate::status::Status;

/// An open chain: reads go through all layers, writes into the top.
///
/// All operations take `&self` and may run on many threads.
#[derive(Debug)]
pub struct Chain {
    /// Top first.
    layers: Vec<Arc<Layer>>,
    lower: LowerLayers,
    read_only: bool,
    /// What was found out about the backing file of each layer but the last, top first.
    bases: Vec<BaseFinding>,
}

const _: () = {
    const fn assert_shared<T: Send + Sync>() {}
    assert_shared::<Chain>();
};

impl Chain {
    pub(crate) fn new(top: Layer, lower: LowerLayers, read_only: bool) -> Self {
        let layers = std::iter::once(Arc::new(top)).chain(lower.layers().iter().cloned()).collect();
        Self { layers, lower, read_only, bases: Vec::new() }
    }

    pub(crate) fn with_bases(self, bases: Vec<BaseFinding>) -> Self {
        Self { bases, ..self }
    }

    /// Whether the backing file of the layer at a depth was still the one that the layer was made on
    /// when the chain was opened.
    #[must_use]
    pub fn base_verdict(&self, depth: usize) -> BaseVerdict {
        self.bases.get(depth).map_or(BaseVerdict::NotRecorded, |finding| finding.verdict)
    }

    /// The backing files that were found to be, or may be, others than those that their overlays were
    /// made on, copies included, top first. Nothing is written or refused because of them, unless
    /// [`Policy::require_same_base`](crate::Policy::require_same_base) says so.
    pub fn base_findings(&self) -> impl Iterator<Item = &BaseFinding> {
        let is_news = |verdict| !matches!(verdict, BaseVerdict::Same | BaseVerdict::NotRecorded);
        self.bases.iter().filter(move |finding| is_news(finding.verdict))
    }

    /// The layers, top first; never empty.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &Layer> + DoubleEndedIterator {
        self.layers.iter().map(|layer| &**layer)
    }

    /// The top layer.
    #[must_use]
    pub fn top(&self) -> &Layer {
        // A chain is only made with a top.
        &self.layers[0]
    }

    /// The top layer, to be changed itself. `None` while somebody else holds it.
    pub(crate) fn top_mut(&mut self) -> Option<&mut Layer> {
        self.layers.first_mut().and_then(Arc::get_mut)
    }

    /// The layer at a depth, 0 for the top.
    #[must_use]
    pub fn layer(&self, depth: usize) -> Option<&Layer> {
        self.layers.get(depth).map(|layer| &**layer)
    }

    /// Number of layers, at least 1.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Size of the disk in bytes: that of the top layer.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.top().virtual_size()
    }

    /// Whether writes are refused.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Bytes of memory that the index of the lower layers takes at this moment; see
    /// [`chain_index_bytes`](crate::OpenOptions::chain_index_bytes).
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.lower.index_bytes()
    }

    /// Fills `buf` with the bytes at `offset`, each from the layer that owns it.
    ///
    /// # Errors
    /// The range lies outside the disk, a layer is damaged, or the host failed. `buf` is then
    /// unspecified.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        let top = self.top();
        match top.disk() {
            Disk::Raw(raw) => raw.read_at(offset, buf).map_err(|e| top.storage_error(e)),
            Disk::Qcow2(image) => image.read_at(offset, buf).map_err(|e| top.image_error(e)),
        }
    }

    /// Writes `buf` at `offset` into the top layer. Durable after the next successful
    /// [`flush`](Chain::flush).
    ///
    /// # Errors
    /// The range lies outside the disk, the chain is read-only, a layer is damaged, or the host
    /// failed.
    pub fn write_at(&self, offset: u64, buf: &[u8]) -> Result<()> {
        self.check_writable(offset, buf.len() as u64)?;
        let top = self.top();
        match top.disk() {
            Disk::Raw(raw) => raw.storage().write_at(offset, buf).map_err(|e| top.storage_error(e)),
            Disk::Qcow2(image) => image.write_at(offset, buf).map_err(|e| top.image_error(e)),
        }
    }

    /// A compressor for clusters of the top layer; make one per thread.
    ///
    /// # Errors
    /// The top layer is raw, or its compression type is compiled out.
    pub fn compressor(&self) -> Result<Compressor> {
        self.compressor_with_level(None)
    }

    /// A compressor for clusters of the top layer at a level: 2 to 9 for deflate, 1 to 19 for zstd,
    /// `None` for the default.
    ///
    /// # Errors
    /// The top layer is raw, its compression type is compiled out or has no such level.
    pub fn compressor_with_level(&self, level: Option<i32>) -> Result<Compressor> {
        let top = self.top();
        self.top_image()?.compressor_with_level(level).map_err(|e| top.image_error(e))
    }

    /// Stores what a [`Compressor`] made of the cluster at `offset` in the top layer.
    ///
    /// # Errors
    /// The top layer is raw or keeps data for the cluster already, or as for
    /// [`write_at`](Chain::write_at).
    pub fn write_blob(&self, offset: u64, blob: &[u8]) -> Result<()> {
        self.check_writable(offset, 1)?;
        let top = self.top();
        self.top_image()?.write_blob(offset, blob).map_err(|e| top.image_error(e))
    }

    /// Compresses and writes whole clusters of the top layer; the last one of the disk may be
    /// shorter.
    ///
    /// # Errors
    /// The top layer is raw or keeps data for a cluster already, the range does not consist of
    /// whole clusters, or as for [`write_at`](Chain::write_at).
    pub fn write_compressed_at(
        &self,
        compressor: &mut Compressor,
        offset: u64,
        buf: &[u8],
    ) -> Result<()> {
        self.check_writable(offset, buf.len() as u64)?;
        let top = self.top();
        self.top_image()?
            .write_compressed_at(compressor, offset, buf)
            .map_err(|e| top.image_error(e))
    }

    fn top_image(&self) -> Result<&Image> {
        let top = self.top();
        top.image().ok_or_else(|| Error::NotCompressible { layer: top.path().to_owned() })
    }

    /// Makes a range of the top layer read as zeros; with `unmap` host space may be given back.
    ///
    /// # Errors
    /// As for [`write_at`](Chain::write_at).
    pub fn write_zeroes_at(&self, offset: u64, len: u64, unmap: bool) -> Result<()> {
        self.check_writable(offset, len)?;
        let top = self.top();
        match top.disk() {
            Disk::Raw(raw) => {
                let punched = unmap && raw.storage().punch_hole(offset, len).unwrap_or(false);
                if punched {
                    return Ok(());
                }
                raw.storage().write_zeroes_at(offset, len).map_err(|e| top.storage_error(e))
            }
            Disk::Qcow2(image) => {
                let mode = if unmap { ZeroMode::Unmap } else { ZeroMode::Keep };
                image.write_zeroes_at(offset, len, mode).map_err(|e| top.image_error(e))
            }
        }
    }

    /// Gives up what the guest keeps in a range of the top layer; it then reads as zeros, as far
    /// as the format can say so. Host space is given back where the host can.
    ///
    /// # Errors
    /// As for [`write_at`](Chain::write_at).
    pub fn discard_at(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable(offset, len)?;
        let top = self.top();
        match top.disk() {
            Disk::Raw(raw) => {
                raw.storage().punch_hole(offset, len).map(drop).map_err(|e| top.storage_error(e))
            }
            Disk::Qcow2(image) => image.discard_at(offset, len).map_err(|e| top.image_error(e)),
        }
    }

    /// Makes every write that completed before this call durable. Nothing to do on a read-only
    /// chain.
    ///
    /// # Errors
    /// The host failed; the top layer is then given up for writing.
    pub fn flush(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let top = self.top();
        match top.disk() {
            Disk::Raw(raw) => raw.storage().sync().map_err(|e| top.storage_error(e)),
            Disk::Qcow2(image) => image.flush().map_err(|e| top.image_error(e)),
        }
    }

    /// What is known about up to `len` bytes at `offset` through the whole chain, without reading
    /// data. The answer is for at least one byte, if `len` is not 0.
    ///
    /// # Errors
    /// The range lies outside the disk, a layer is damaged, or the host failed.
    pub fn status_at(&self, offset: u64, len: u64) -> Result<Status> {
        self.check_range(offset, len)?;
        match self.top().answer(offset, self.reach(offset, len)?)? {
            Answer::Here(status) => Ok(status.at_most(len)),
            Answer::Below { len, reserved } => self.lower.status_at(offset, len, reserved),
        }
    }

    /// How far to ask the top at once: where it does not own the first byte, no further than what lies
    /// below says the same. Else every small piece below would make it look through all of its tables.
    fn reach(&self, offset: u64, len: u64) -> Result<u64> {
        let top = self.top();
        let Some(image) = top.image() else { return Ok(len) };
        let first = image.first_run(offset, len.min(1)).map_err(|e| top.image_error(e))?;
        match first.map(|run| run.kind) {
            Some(RunKind::Below { .. }) => Ok(self.lower.reach(offset, len)),
            _ => Ok(len),
        }
    }

    /// What the top layer alone says about up to `len` bytes at `offset`; what it does not own is
    /// not present.
    ///
    /// # Errors
    /// As for [`status_at`](Chain::status_at).
    pub fn top_status_at(&self, offset: u64, len: u64) -> Result<Status> {
        self.check_range(offset, len)?;
        Ok(match self.top().answer(offset, len)? {
            Answer::Here(status) => status.at_most(len),
            Answer::Below { len, reserved } => Status::absent(len, 0).reserving(reserved),
        })
    }

    /// Flushes and gives the chain up.
    ///
    /// # Errors
    /// As for [`flush`](Chain::flush).
    pub fn close(self) -> Result<()> {
        self.flush()
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.virtual_size();
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(()),
            _ => Err(Error::OutOfRange { offset, len, size }),
        }
    }

    fn check_writable(&self, offset: u64, len: u64) -> Result<()> {
        self.check_range(offset, len)?;
        if self.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }
}
