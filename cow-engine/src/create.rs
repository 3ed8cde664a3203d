//! Creating an image: sizes first, then everything but the header, then the header.
//!
//! Until the header is written the file is not a qcow2 image, so a crash in between leaves
//! nothing that could be taken for one.

use block_io::Storage;
use qcow2_format::{
    Geometry, Header, HeaderBuilder, HostCluster, HostOffset, L2Layout, RefcountBlock,
    RefcountTableEntry, TablePointer,
};

use crate::error::{Error, Purpose, Result};
use crate::options::CreateOptions;

/// Where the structures of a new image lie, in clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    geometry: Geometry,
    table_clusters: u64,
    block_count: u64,
    l1_entries: u64,
    l1_clusters: u64,
}

/// Makes an empty image in `storage`, whose former content is lost.
///
/// # Errors
/// An option the format does not allow, names that do not fit into the header, or a host failure.
pub fn create(storage: &dyn Storage, options: &CreateOptions) -> Result<Header> {
    let geometry = Geometry::new(options.cluster_bits, options.refcount_order, L2Layout::Standard)?;
    if options.virtual_size > geometry.virtual_size_max() {
        return Err(Error::Option {
            name: "size",
            found: options.virtual_size.to_string(),
            allowed: "what an L1 table of 32 MiB can map, use a larger cluster size",
        });
    }
    let layout = Layout::new(geometry, options.virtual_size);
    let header = layout.header(options)?;
    let during = Error::storage;
    storage.set_len(0).map_err(during(Purpose::Header))?;
    storage
        .write_at(layout.offset(layout.blocks())?.get(), &layout.block_bytes())
        .map_err(during(Purpose::RefcountBlock))?;
    storage
        .write_at(layout.offset(1)?.get(), &layout.table_bytes()?)
        .map_err(during(Purpose::RefcountTable))?;
    if layout.l1_entries > 0 {
        // Only as many bytes as there are entries: the rest of the cluster reads as zeros.
        let zeros = vec![0; (layout.l1_entries * 8) as usize];
        storage
            .write_at(layout.offset(layout.l1())?.get(), &zeros)
            .map_err(during(Purpose::L1Table))?;
    }
    storage.sync().map_err(during(Purpose::Sync))?;
    storage.write_at(0, &header.encode()).map_err(during(Purpose::Header))?;
    storage.sync().map_err(during(Purpose::Sync))?;
    Ok(header)
}

impl Layout {
    /// Header, refcount table, refcount blocks, L1 table: in this order, without gaps.
    fn new(geometry: Geometry, virtual_size: u64) -> Self {
        let l1_entries = geometry.l1_entries_for(virtual_size);
        let l1_clusters = geometry.clusters_for(l1_entries * 8);
        let (mut table_clusters, mut block_count) = (1, 1);
        // The counts count themselves: widen until they cover everything.
        loop {
            let used = 1 + table_clusters + block_count + l1_clusters;
            let blocks = used.div_ceil(geometry.refcounts_per_block());
            let tables = blocks.div_ceil(geometry.table_entries_per_cluster());
            if blocks <= block_count && tables <= table_clusters {
                break;
            }
            block_count = blocks.max(block_count);
            table_clusters = tables.max(table_clusters);
        }
        Self { geometry, table_clusters, block_count, l1_entries, l1_clusters }
    }

    const fn blocks(&self) -> u64 {
        1 + self.table_clusters
    }

    const fn l1(&self) -> u64 {
        self.blocks() + self.block_count
    }

    const fn used(&self) -> u64 {
        self.l1() + self.l1_clusters
    }

    fn offset(&self, cluster: u64) -> Result<HostOffset> {
        let cluster = HostCluster::new(cluster);
        self.geometry
            .host_offset(cluster)
            .ok_or_else(|| refcount::Error::BeyondLimit { cluster }.into())
    }

    fn header(&self, options: &CreateOptions) -> Result<Header> {
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let l1_offset =
            if self.l1_entries == 0 { HostOffset::ZERO } else { self.offset(self.l1())? };
        let mut builder = HeaderBuilder::new(self.geometry, options.virtual_size)
            .version(options.version)
            .compression_type(options.compression_type)
            .lazy_refcounts(options.lazy_refcounts)
            .refcount_table(TablePointer {
                offset: self.offset(1)?,
                count: count(self.table_clusters),
            })
            .l1_table(TablePointer { offset: l1_offset, count: count(self.l1_entries) });
        if let Some(backing) = &options.backing {
            let format = backing.format.as_deref().map(str::as_bytes);
            builder = builder.backing(backing.name.as_bytes(), format);
        }
        Ok(builder.build()?)
    }

    /// All refcount blocks, one after the other: the used clusters count 1.
    fn block_bytes(&self) -> Vec<u8> {
        let cluster_bytes = self.geometry.cluster_bytes() as usize;
        let per_block = self.geometry.refcounts_per_block();
        let mut bytes = Vec::with_capacity(cluster_bytes * self.block_count as usize);
        for number in 0..self.block_count {
            let mut block = RefcountBlock::zeroed(self.geometry.refcount_order(), cluster_bytes);
            let used = self.used().saturating_sub(number * per_block).min(per_block);
            for slot in 0..used as usize {
                // 1 fits every width.
                let _ = block.set(slot, 1);
            }
            bytes.extend_from_slice(block.as_bytes());
        }
        bytes
    }

    fn table_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for number in 0..self.block_count {
            let entry = RefcountTableEntry::new(self.offset(self.blocks() + number)?);
            bytes.extend_from_slice(&entry.bits().to_be_bytes());
        }
        // The table is zeros up to the blocks, which the file already reaches.
        Ok(bytes)
    }
}
