//! Entries of a bitmap table: where a stretch of bits lies, or that it needs no place.

use static_assertions::const_assert_eq;

use crate::error::{Error, Structure};
use crate::geometry::Geometry;
use crate::unit::HostOffset;

/// One entry of a bitmap table, any bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BitmapTableEntry(u64);

/// What a bitmap table entry says about its stretch of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BitmapCluster {
    /// No cluster: all bits are 0.
    AllZeros,
    /// No cluster: all bits are 1.
    AllOnes,
    /// The bits lie in this cluster.
    Stored(HostOffset),
}

const TABLE_OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const TABLE_ALL_ONES: u64 = 1;
const TABLE_RESERVED_MASK: u64 = 0xff00_0000_0000_01fe;
const_assert_eq!(TABLE_OFFSET_MASK ^ TABLE_ALL_ONES ^ TABLE_RESERVED_MASK, u64::MAX);

impl BitmapTableEntry {
    /// Wraps the bits as they stand on disk (after byte order).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits as they stand on disk.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Decodes the entry; `at` is its offset as it should appear in an error.
    ///
    /// # Errors
    /// Reserved bits, an unaligned offset, or an offset together with the all-ones bit.
    pub fn decode(self, geometry: Geometry, at: u64) -> Result<BitmapCluster, Error> {
        let offset = self.0 & TABLE_OFFSET_MASK;
        let invalid =
            |allowed| Err(Error::hex(Structure::BitmapTable, "entry", Some(at), self.0, allowed));
        if self.0 & TABLE_RESERVED_MASK != 0 {
            return invalid("bits 0 and 9..=55");
        }
        match (offset, self.0 & TABLE_ALL_ONES) {
            (0, 0) => Ok(BitmapCluster::AllZeros),
            (0, _) => Ok(BitmapCluster::AllOnes),
            (_, 0) if geometry.is_cluster_aligned(offset) => {
                Ok(BitmapCluster::Stored(HostOffset::new(offset)))
            }
            (_, 0) => invalid("an offset that is a multiple of the cluster size"),
            (_, _) => invalid("an offset or the all-ones bit, not both"),
        }
    }
}
