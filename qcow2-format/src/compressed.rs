//! Compressed cluster descriptor: where the compressed bytes lie and how many sectors to read.
//!
//! The split between offset and sector count moves with the cluster size: bit
//! `x = 70 - cluster_bits` is the first of the count. The count is of *additional* 512-byte
//! sectors after the one that holds the first byte; the true length is not stored.

use crate::error::{Error, Structure};
use crate::geometry::Geometry;
use crate::l2::L2Entry;
use crate::limit::{HOST_OFFSET_MAX, SECTOR_BYTES};
use crate::unit::HostOffset;

const COMPRESSED: u64 = 1 << 62;
const DESCRIPTOR_MASK: u64 = COMPRESSED - 1;

/// A decoded compressed cluster descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompressedDescriptor {
    host_offset: HostOffset,
    additional_sectors: u64,
}

impl CompressedDescriptor {
    /// Decodes an entry whose compressed bit is set; `None` otherwise.
    ///
    /// COPIED (bit 63) should be clear here; it is masked out, as the reference implementation
    /// does, and left to the consistency check.
    #[must_use]
    pub const fn decode(geometry: Geometry, entry: L2Entry) -> Option<Self> {
        if !entry.is_compressed() {
            return None;
        }
        let bits = entry.bits() & DESCRIPTOR_MASK;
        let x = geometry.compressed_offset_bits();
        let offset_mask = (1_u64 << x).saturating_sub(1);
        Some(Self {
            host_offset: HostOffset::new(bits & offset_mask),
            additional_sectors: bits >> x,
        })
    }

    /// Describes `len` compressed bytes at `host_offset`.
    ///
    /// # Errors
    /// The offset does not fit the descriptor of this cluster size (or 56 bits), or `len` is 0 or
    /// needs more sectors than the count can say.
    pub const fn new(geometry: Geometry, host_offset: HostOffset, len: u64) -> Result<Self, Error> {
        const S: Structure = Structure::CompressedDescriptor;
        let x = geometry.compressed_offset_bits();
        let limit = if (1_u64 << x) < HOST_OFFSET_MAX { 1_u64 << x } else { HOST_OFFSET_MAX };
        let offset = host_offset.get();
        let Some(last) = offset.checked_add(len.saturating_sub(1)) else {
            return Err(Error::hex(
                S,
                "host offset",
                None,
                offset,
                "below 2^min(70-cluster_bits, 56)",
            ));
        };
        if last >= limit {
            return Err(Error::hex(
                S,
                "host offset",
                None,
                offset,
                "below 2^min(70-cluster_bits, 56)",
            ));
        }
        let additional_sectors = (last / SECTOR_BYTES).saturating_sub(offset / SECTOR_BYTES);
        let count_bits = 62_u32.saturating_sub(x);
        if len == 0 || additional_sectors >> count_bits != 0 {
            return Err(Error::number(
                S,
                "length",
                None,
                len,
                "1 byte to what the sector count can say",
            ));
        }
        Ok(Self { host_offset, additional_sectors })
    }

    /// The L2 entry for this descriptor; never COPIED.
    #[must_use]
    pub const fn encode(self, geometry: Geometry) -> L2Entry {
        let x = geometry.compressed_offset_bits();
        L2Entry::from_bits(COMPRESSED | (self.additional_sectors << x) | self.host_offset.get())
    }

    /// First byte of the compressed data; any alignment.
    #[must_use]
    pub const fn host_offset(self) -> HostOffset {
        self.host_offset
    }

    /// 512-byte sectors beyond the first.
    #[must_use]
    pub const fn additional_sectors(self) -> u64 {
        self.additional_sectors
    }

    /// Bytes from the host offset to the end of the last sector: all that may be read. The
    /// compressed stream ends somewhere inside; what follows it means nothing.
    #[must_use]
    pub const fn readable_bytes(self) -> u64 {
        let sectors = self.additional_sectors.saturating_add(1);
        sectors.saturating_mul(SECTOR_BYTES).saturating_sub(self.host_offset.get() % SECTOR_BYTES)
    }
}

#[cfg(test)]
mod tests;
