//! Preallocation: how much of a new area is prepared before the guest writes to it, and the sign
//! of it in an image as found, which is that counts promise much more than the host keeps.

use core::fmt;
use core::str::FromStr;

use block_io::StorageExt;
use qcow2_format::{HostOffset, RefcountBlock, RefcountTableEntry};

use crate::error::{Error, Purpose, Result};
use crate::image::Image;

/// How much of a new image, or of the area that a disk grows by, is prepared in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// Nothing: tables and clusters come with the first write.
    #[default]
    Off,
    /// Tables and entries for every cluster; the clusters themselves are holes in the file.
    Metadata,
    /// The same, and the host reserves space for the clusters.
    Falloc,
    /// The same, and zeros are written to the clusters.
    Full,
}

/// A text that names no kind of preallocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPreallocation(pub String);

impl Preallocation {
    /// The name on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Falloc => "falloc",
            Self::Full => "full",
        }
    }
}

impl FromStr for Preallocation {
    type Err = UnknownPreallocation;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Off, Self::Metadata, Self::Falloc, Self::Full];
        all.into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| UnknownPreallocation(name.to_owned()))
    }
}

impl fmt::Display for Preallocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for UnknownPreallocation {}

impl fmt::Display for UnknownPreallocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "preallocation is '{}', allowed is off, metadata, falloc or full", self.0)
    }
}

impl Image {
    /// Whether clearly more host clusters are counted as used than the host keeps space for, as
    /// after creation with preallocated metadata. Holes inside data clusters are then so likely
    /// that asking the host for them pays; the reference implementation draws the same line.
    ///
    /// Looks at what is on disk. The cost is at most one read of all refcount blocks.
    ///
    /// # Errors
    /// The host failed.
    pub fn seems_preallocated(&self) -> Result<bool> {
        let cluster_bytes = self.geometry().cluster_bytes();
        let len = self.storage.len().map_err(Error::storage(Purpose::Length))?;
        let kept = self.storage.allocated_bytes().map_err(Error::storage(Purpose::Length))?;
        let (clusters, kept) = (self.geometry().clusters_for(len), kept / cluster_bytes);
        let enough = (kept.saturating_mul(10) / 9).max(kept.saturating_add(2));
        Ok(clusters >= enough && self.counts_at_least(enough, clusters)?)
    }

    /// Whether at least `enough` of the first `clusters` host clusters are counted.
    fn counts_at_least(&self, enough: u64, clusters: u64) -> Result<bool> {
        let per_block = self.geometry().refcounts_per_block();
        let table = self.header.refcount_table();
        let entries = u64::from(table.count) * self.geometry().table_entries_per_cluster();
        let mut counted = 0;
        for block in 0..clusters.div_ceil(per_block).min(entries) {
            let inside = per_block.min(clusters - block * per_block);
            let entry = self.refcount_table_entry(table.offset, block)?;
            let Some(offset) = entry.block_offset() else { continue };
            counted += self.counted_in(offset, inside)?;
            if counted >= enough {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refcount_table_entry(&self, table: HostOffset, index: u64) -> Result<RefcountTableEntry> {
        let mut word = [0; 8];
        self.storage
            .read_zero_filled(table.get().saturating_add(index * 8), &mut word)
            .map_err(Error::storage(Purpose::RefcountTable))?;
        Ok(RefcountTableEntry::from_bits(u64::from_be_bytes(word)))
    }
    /// How many of the first `inside` counts of the block at `offset` are not 0.
    fn counted_in(&self, offset: HostOffset, inside: u64) -> Result<u64> {
        let geometry = self.geometry();
        let mut bytes = vec![0; geometry.cluster_bytes() as usize];
        self.storage
            .read_zero_filled(offset.get(), &mut bytes)
            .map_err(Error::storage(Purpose::RefcountBlock))?;
        let block = RefcountBlock::from_bytes(geometry.refcount_order(), bytes);
        Ok((0..inside as usize).filter(|&index| block.get(index) != 0).count() as u64)
    }
}
