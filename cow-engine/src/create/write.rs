//! Carrying a `CreatePlan` out: space for data, tables from front to back, and the header last.

use block_io::Storage;
use qcow2_format::limit::SECTOR_BYTES;
use qcow2_format::{L1Entry, L2Entry, L2Layout, RefcountBlock, RefcountTableEntry};

use super::CreatePlan;
use super::layout::Blocks;
use super::stream::{Stream, write_zeros};
use crate::error::{Error, Purpose, Result};
use crate::preallocation::Preallocation;

impl CreatePlan {
    /// Makes the image in `storage`, whose former content is lost. The header is written last.
    ///
    /// # Errors
    /// A host failure; what is left behind is not an image.
    pub fn write(&self, storage: &dyn Storage) -> Result<()> {
        let during = Error::storage;
        let is_sparse = empty(storage)?;
        if !is_sparse {
            // Else an old header would vouch for tables that are half gone.
            let cluster_bytes = self.layout.geometry.cluster_bytes();
            storage.write_zeroes_at(0, cluster_bytes).map_err(during(Purpose::Header))?;
            storage.sync().map_err(during(Purpose::Sync))?;
        }
        storage.set_len(self.file_bytes()).map_err(during(Purpose::Length))?;
        let data = self.layout.offset(self.layout.data).get();
        // Tables are there from now on, also the parts that are zeros and not written below. An
        // image whose counts promise more than the host keeps is taken for a preallocated one.
        let tables = data.min(self.file_bytes());
        storage.allocate(0, tables).map_err(during(Purpose::Length))?;
        prepare(storage, is_sparse, self.preallocation, data, self.data_bytes())?;
        let first = self.layout.offset(self.layout.table()).get();
        self.write_tables(&mut Stream::new(storage, is_sparse, first))?;
        let header = self.header.encode();
        // A cluster is at least a sector. The first one makes the image, whole or not at all.
        let (first_sector, rest) = header.split_at(SECTOR_BYTES as usize);
        let used = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        storage.write_at(SECTOR_BYTES, &rest[..used]).map_err(during(Purpose::Header))?;
        storage.sync().map_err(during(Purpose::Sync))?;
        storage.write_at(0, first_sector).map_err(during(Purpose::Header))?;
        storage.sync().map_err(during(Purpose::Sync))
    }

    /// Gives the external data file the length of the disk and, if asked for, its space. The
    /// former content is lost. Comes before [`write`](Self::write): the header promises the file.
    ///
    /// # Errors
    /// The plan has no external data file, or a host failure.
    pub fn write_data_file(&self, data: &dyn Storage) -> Result<()> {
        if !self.external {
            return Err(Error::Plan { reason: "the new image has no external data file" });
        }
        let during = Error::storage;
        let size = self.header.virtual_size();
        let is_sparse = empty(data)?;
        data.set_len(size).map_err(during(Purpose::Length))?;
        prepare(data, is_sparse, self.preallocation, 0, size)?;
        data.sync().map_err(during(Purpose::Sync))
    }

    fn write_tables(&self, stream: &mut Stream<'_>) -> Result<()> {
        let layout = &self.layout;
        stream.words(Purpose::RefcountTable, layout.block_count(), |index| {
            RefcountTableEntry::new(layout.offset(layout.block(index))).bits()
        })?;
        let first_block = layout.offset(layout.block(0)).get();
        stream.zeros_up_to(Purpose::RefcountTable, first_block)?;
        match &layout.blocks {
            Blocks::InOrder { count } => self.write_blocks(stream, 0..*count)?,
            Blocks::AroundL1 { .. } => self.write_blocks(stream, [0])?,
        }
        self.write_l1(stream)?;
        if let Blocks::AroundL1 { places } = &layout.blocks {
            let mut behind: Vec<u64> = (1..places.len() as u64).collect();
            behind.sort_by_key(|index| layout.block(*index));
            self.write_blocks(stream, behind)?;
        }
        self.write_l2(stream)
    }

    /// Writes refcount blocks that lie side by side: counts of 1 up to the last used cluster.
    fn write_blocks(
        &self,
        stream: &mut Stream<'_>,
        blocks: impl IntoIterator<Item = u64>,
    ) -> Result<()> {
        let geometry = self.layout.geometry;
        let full = self.block(geometry.refcounts_per_block());
        for index in blocks {
            let counts = self.layout.counts_in_block(index);
            if counts == geometry.refcounts_per_block() {
                stream.bytes(Purpose::RefcountBlock, full.as_bytes())?;
            } else {
                stream.bytes(Purpose::RefcountBlock, self.block(counts).as_bytes())?;
            }
        }
        stream.finish(Purpose::RefcountBlock)
    }

    /// A refcount block whose first `counts` counts are 1.
    fn block(&self, counts: u64) -> RefcountBlock {
        let geometry = self.layout.geometry;
        let cluster_bytes = geometry.cluster_bytes() as usize; // at most 2 MiB
        let mut block = RefcountBlock::zeroed(geometry.refcount_order(), cluster_bytes);
        for index in 0..counts as usize {
            // 1 fits every width.
            let _ = block.set(index, 1);
        }
        block
    }

    /// Points at every L2 table; without preallocation at none.
    fn write_l1(&self, stream: &mut Stream<'_>) -> Result<()> {
        let layout = &self.layout;
        let (purpose, start) = (Purpose::L1Table, layout.offset(layout.l1).get());
        if layout.needs.l2_tables > 0 {
            stream.words(purpose, layout.needs.l2_tables, |index| {
                L1Entry::owned(layout.offset(layout.l2() + index)).bits()
            })?;
        }
        let end = start + layout.l1_clusters() * layout.geometry.cluster_bytes();
        stream.zeros_up_to(purpose, end.min(self.file_bytes()).max(start))
    }

    /// Points at every data cluster. The last table is zeros behind the end of the disk.
    fn write_l2(&self, stream: &mut Stream<'_>) -> Result<()> {
        let layout = &self.layout;
        if layout.needs.l2_tables == 0 {
            return Ok(());
        }
        let geometry = layout.geometry;
        let clusters = geometry.clusters_for(self.header.virtual_size());
        // In a file of its own a cluster lies where the guest sees it.
        let first = if self.external { 0 } else { layout.data };
        let entry = |index: u64| L2Entry::owned(layout.offset(first + index)).bits();
        let purpose = Purpose::L2Table;
        match geometry.l2_layout() {
            L2Layout::Standard => stream.words(purpose, clusters, entry)?,
            // An empty bitmap behind each: prepared, but nothing of it answers yet.
            L2Layout::Extended => stream.words(purpose, clusters * 2, |word| {
                if word % 2 == 0 { entry(word / 2) } else { 0 }
            })?,
        }
        stream.zeros_up_to(purpose, layout.offset(layout.data).get())
    }
}

/// Throws away what the storage holds. Returns whether it is empty now; one of fixed size keeps
/// its old bytes.
fn empty(storage: &dyn Storage) -> Result<bool> {
    let during = Error::storage;
    if storage.len().map_err(during(Purpose::Length))? == 0 {
        return Ok(true);
    }
    storage.set_len(0).map_err(during(Purpose::Length))?;
    // Else a crash could bring old bytes back among the new ones.
    storage.sync().map_err(during(Purpose::Sync))?;
    Ok(storage.len().map_err(during(Purpose::Length))? == 0)
}

/// Prepares space for guest data, which reads as zeros afterwards.
fn prepare(
    storage: &dyn Storage,
    is_sparse: bool,
    preallocation: Preallocation,
    offset: u64,
    len: u64,
) -> Result<()> {
    let failed = Error::storage(Purpose::Data);
    match preallocation {
        Preallocation::Full => return write_zeros(storage, offset, len),
        _ if !is_sparse => storage.write_zeroes_at(offset, len),
        Preallocation::Falloc => storage.allocate(offset, len),
        Preallocation::Off | Preallocation::Metadata => Ok(()),
    }
    .map_err(failed)
}
