//! Geometry: the few numbers from which every table size and index follows.

use crate::error::{Error, Structure};
use crate::limit;
use crate::unit::{GuestOffset, HostCluster, HostOffset};

/// Cluster size as a power of two: 9 (512 bytes) to 21 (2 MiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterBits(u32);

/// Width of a refcount as a power of two bits: 0 (1 bit) to 6 (64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefcountOrder(u32);

/// Shape of the entries of L2 tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L2Layout {
    /// 8-byte entries, one state for a whole cluster.
    Standard,
    /// 16-byte entries with a bitmap for 32 subclusters.
    Extended,
}

/// Cluster size, refcount width and entry shape of one image, checked to fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    cluster_bits: ClusterBits,
    refcount_order: RefcountOrder,
    l2_layout: L2Layout,
}

impl ClusterBits {
    /// The default of the reference implementation: 64 KiB.
    pub const DEFAULT: Self = Self(16);

    /// Checks `bits`.
    ///
    /// # Errors
    /// `bits` is not in 9..=21.
    #[inline]
    pub const fn new(bits: u32) -> Result<Self, Error> {
        if bits < limit::CLUSTER_BITS_MIN || bits > limit::CLUSTER_BITS_MAX {
            let found = bits as u64;
            return Err(Error::number(
                Structure::Header,
                "cluster_bits",
                Some(20),
                found,
                "9..=21",
            ));
        }
        Ok(Self(bits))
    }

    /// The power of two.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl RefcountOrder {
    /// The default of the reference implementation and the only one of version 2: 16 bits.
    pub const DEFAULT: Self = Self(4);

    /// Checks `order`.
    ///
    /// # Errors
    /// `order` is not in 0..=6.
    #[inline]
    pub const fn new(order: u32) -> Result<Self, Error> {
        if order > limit::REFCOUNT_ORDER_MAX {
            let found = order as u64;
            return Err(Error::number(
                Structure::Header,
                "refcount_order",
                Some(96),
                found,
                "0..=6",
            ));
        }
        Ok(Self(order))
    }

    /// The power of two.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Width of one count in bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u32 {
        1 << self.0
    }

    /// Largest count that fits.
    #[must_use]
    #[inline]
    pub const fn max_count(self) -> u64 {
        u64::MAX >> (64_u32.saturating_sub(self.bits()))
    }
}

impl Geometry {
    /// Puts the three together.
    ///
    /// # Errors
    /// Extended L2 entries with clusters below 16 KiB: their subclusters would be smaller than a
    /// sector.
    #[inline]
    pub const fn new(
        cluster_bits: ClusterBits,
        refcount_order: RefcountOrder,
        l2_layout: L2Layout,
    ) -> Result<Self, Error> {
        let extended = matches!(l2_layout, L2Layout::Extended);
        if extended && cluster_bits.0 < limit::CLUSTER_BITS_EXTENDED_MIN {
            let found = cluster_bits.0 as u64;
            let allowed = "14..=21 with extended L2 entries";
            return Err(Error::number(Structure::Header, "cluster_bits", Some(20), found, allowed));
        }
        Ok(Self { cluster_bits, refcount_order, l2_layout })
    }

    /// Cluster size as a power of two.
    #[must_use]
    #[inline]
    pub const fn cluster_bits(self) -> ClusterBits {
        self.cluster_bits
    }

    /// Refcount width.
    #[must_use]
    #[inline]
    pub const fn refcount_order(self) -> RefcountOrder {
        self.refcount_order
    }

    /// Shape of L2 entries.
    #[must_use]
    #[inline]
    pub const fn l2_layout(self) -> L2Layout {
        self.l2_layout
    }

    /// Bytes per cluster.
    #[must_use]
    #[inline]
    pub const fn cluster_bytes(self) -> u64 {
        1 << self.cluster_bits.0
    }

    /// Bytes per L2 entry: 8 or 16.
    #[must_use]
    #[inline]
    pub const fn l2_entry_bytes(self) -> u64 {
        match self.l2_layout {
            L2Layout::Standard => 8,
            L2Layout::Extended => 16,
        }
    }

    /// Power of two of the number of entries in an L2 table (one cluster).
    const fn l2_bits(self) -> u32 {
        let entry_bits = match self.l2_layout {
            L2Layout::Standard => 3,
            L2Layout::Extended => 4,
        };
        self.cluster_bits.0.saturating_sub(entry_bits)
    }

    /// Entries in an L2 table.
    #[must_use]
    #[inline]
    pub const fn l2_entry_count(self) -> u64 {
        1 << self.l2_bits()
    }

    /// Guest bytes that one L2 table maps.
    #[must_use]
    #[inline]
    pub const fn l2_table_guest_bytes(self) -> u64 {
        1 << self.l2_bits().saturating_add(self.cluster_bits.0)
    }

    /// Index into the L1 table for a guest offset.
    #[must_use]
    #[inline]
    pub const fn l1_index(self, offset: GuestOffset) -> u64 {
        offset.get() >> self.l2_bits().saturating_add(self.cluster_bits.0)
    }

    /// Index into the L2 table for a guest offset.
    #[must_use]
    #[inline]
    pub const fn l2_index(self, offset: GuestOffset) -> u64 {
        (offset.get() >> self.cluster_bits.0) & self.l2_entry_count().saturating_sub(1)
    }

    /// Distance of `offset` from the start of its cluster; for guest and host offsets alike.
    #[must_use]
    #[inline]
    pub const fn offset_in_cluster(self, offset: u64) -> u64 {
        offset & self.cluster_bytes().saturating_sub(1)
    }

    /// `offset` rounded down to the start of its cluster.
    #[must_use]
    #[inline]
    pub const fn cluster_start(self, offset: u64) -> u64 {
        offset & !self.cluster_bytes().saturating_sub(1)
    }

    /// Whether `offset` is a multiple of the cluster size.
    #[must_use]
    #[inline]
    pub const fn is_cluster_aligned(self, offset: u64) -> bool {
        self.offset_in_cluster(offset) == 0
    }

    /// Number of clusters that `bytes` need, the last one possibly partial.
    #[must_use]
    #[inline]
    pub const fn clusters_for(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes())
    }

    /// Entries an L1 table needs for a virtual disk of `size` bytes.
    #[must_use]
    #[inline]
    pub const fn l1_entries_for(self, size: u64) -> u64 {
        size.div_ceil(self.l2_table_guest_bytes())
    }

    /// Largest virtual size whose L1 table stays within [`limit::L1_TABLE_BYTES_MAX`]; at most
    /// what fits a signed 64-bit offset.
    #[must_use]
    #[inline]
    pub const fn virtual_size_max(self) -> u64 {
        let bytes = (limit::L1_TABLE_BYTES_MAX / 8).saturating_mul(self.l2_table_guest_bytes());
        if bytes > i64::MAX as u64 { i64::MAX as u64 } else { bytes }
    }

    /// Counts in one refcount block (one cluster).
    #[must_use]
    #[inline]
    pub const fn refcounts_per_block(self) -> u64 {
        self.cluster_bytes().saturating_mul(8) >> self.refcount_order.0
    }

    /// Entries in one cluster of the refcount table (or L1 table).
    #[must_use]
    #[inline]
    pub const fn table_entries_per_cluster(self) -> u64 {
        self.cluster_bytes() / 8
    }

    /// The host cluster that holds `offset`.
    #[must_use]
    #[inline]
    pub const fn host_cluster(self, offset: HostOffset) -> HostCluster {
        HostCluster::new(offset.get() >> self.cluster_bits.0)
    }

    /// Start of a host cluster; `None` if it lies beyond 64 bits.
    #[must_use]
    #[inline]
    pub const fn host_offset(self, cluster: HostCluster) -> Option<HostOffset> {
        match cluster.get().checked_mul(self.cluster_bytes()) {
            Some(offset) => Some(HostOffset::new(offset)),
            None => None,
        }
    }

    /// Bytes per subcluster: a 32nd of a cluster with extended L2 entries, otherwise a cluster.
    #[must_use]
    #[inline]
    pub const fn subcluster_bytes(self) -> u64 {
        match self.l2_layout {
            L2Layout::Standard => self.cluster_bytes(),
            L2Layout::Extended => self.cluster_bytes() / 32,
        }
    }

    /// First bit of the sector count in a compressed cluster descriptor: `70 - cluster_bits`.
    #[must_use]
    #[inline]
    pub const fn compressed_offset_bits(self) -> u32 {
        70_u32.saturating_sub(self.cluster_bits.0)
    }
}
