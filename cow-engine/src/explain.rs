//! How a guest offset resolves in one image: every index, every entry, every bit, and what a
//! write there would do.

use cluster_map::{
    ClusterType, Mapping, SubclusterRun, SubclusterType, Subclusters, WriteDecision,
};
use qcow2_format::{Geometry, GuestOffset, HostOffset, L1Entry, L2Bitmap, L2Entry};

use crate::error::Result;
use crate::image::Image;

/// How a guest offset resolves in one image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Cluster size and table shapes of the image, which say how its entries are split.
    pub geometry: Geometry,
    /// The guest offset.
    pub guest: GuestOffset,
    /// First guest byte of its cluster.
    pub cluster_guest: GuestOffset,
    /// Index into the L1 table.
    pub l1_index: u64,
    /// The L1 entry.
    pub l1_entry: L1Entry,
    /// Index into the L2 table.
    pub l2_index: u64,
    /// The L2 entry; `None` without an L2 table.
    pub l2_entry: Option<L2Entry>,
    /// The bitmap beside it; `None` without an L2 table or without extended entries.
    pub l2_bitmap: Option<L2Bitmap>,
    /// The cluster type, or why the entry means nothing.
    pub cluster: core::result::Result<ClusterType, cluster_map::Error>,
    /// The subclusters around the offset that are of one type; `None` without extended entries.
    pub subclusters: Option<SubclusterRun>,
    /// What a write there would do, if the entry means anything.
    pub write: Option<WriteDecision>,
    /// Refcount of the host cluster that holds the data; only known to a writable image.
    pub refcount: Option<u64>,
}

/// A group of bits of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryBits {
    /// Lowest bit of the group.
    pub low: u32,
    /// Highest bit of the group.
    pub high: u32,
    /// The bits, shifted down to bit 0.
    pub value: u64,
    /// Name of the group in the format specification.
    pub name: &'static str,
}

impl Image {
    /// Explains how a guest offset resolves in this image alone.
    ///
    /// # Errors
    /// The offset lies outside the disk, or a table is unreadable.
    pub fn explain(&self, offset: u64) -> Result<Explanation> {
        self.check_range(offset, 1)?;
        let geometry = self.geometry();
        let guest = GuestOffset::new(offset);
        let cluster_guest = GuestOffset::new(geometry.cluster_start(offset));
        let l1_index = geometry.l1_index(guest);
        let slice = self.slice_if_any(guest)?;
        let found = slice.map(|slice| slice.get(self.slice_place(guest).index));
        let mapping = found.unwrap_or(Mapping::UNALLOCATED);
        let extended = self.dialect.has_subclusters();
        let skip = geometry.offset_in_cluster(offset);
        let mut subclusters = None;
        let cluster = if extended {
            Subclusters::classify(self.dialect, cluster_guest, mapping).map(|all| {
                subclusters = Some(all.run_around((skip / geometry.subcluster_bytes()) as u32));
                all.cluster()
            })
        } else {
            ClusterType::classify(self.dialect, cluster_guest, mapping.entry)
        };
        let write = WriteDecision::decide(self.dialect, cluster_guest, mapping, skip..skip + 1);
        Ok(Explanation {
            geometry,
            guest,
            cluster_guest,
            l1_index,
            l1_entry: self.l1.get(l1_index),
            l2_index: geometry.l2_index(guest),
            l2_entry: found.map(|mapping| mapping.entry),
            l2_bitmap: found.map(|mapping| mapping.bitmap).filter(|_| extended),
            cluster,
            subclusters,
            write: write.ok(),
            refcount: self.refcount_of(cluster.ok())?,
        })
    }

    fn refcount_of(&self, cluster: Option<ClusterType>) -> Result<Option<u64>> {
        let Some(writer) = &self.writer else { return Ok(None) };
        if self.dialect.has_external_data() {
            return Ok(None);
        }
        let host = match cluster {
            Some(ClusterType::Normal { host } | ClusterType::ZeroAllocated { host }) => host,
            Some(ClusterType::Compressed(descriptor)) => descriptor.host_offset(),
            _ => return Ok(None),
        };
        let cluster = self.geometry().host_cluster(host);
        writer.allocator.count(cluster).map(Some)
    }
}

impl Explanation {
    /// Host offset of the very byte, where it has one.
    #[must_use]
    pub fn host_offset(&self) -> Option<HostOffset> {
        let skip = self.guest.checked_since(self.cluster_guest)?;
        match (self.subclusters, self.cluster) {
            (Some(SubclusterRun { kind, .. }), _)
                if !matches!(kind, SubclusterType::Normal { .. }) =>
            {
                None
            }
            (_, Ok(ClusterType::Normal { host })) => host.checked_add(skip),
            _ => None,
        }
    }

    /// The L1 entry, group by group from the highest bit down.
    #[must_use]
    pub fn l1_bits(&self) -> Vec<EntryBits> {
        split(
            self.l1_entry.bits(),
            &[
                (63, 63, "COPIED"),
                (56, 62, "reserved"),
                (9, 55, "L2 table offset / 512"),
                (0, 8, "reserved"),
            ],
        )
    }

    /// The L2 entry, group by group from the highest bit down; empty without an L2 table.
    #[must_use]
    pub fn l2_bits(&self) -> Vec<EntryBits> {
        let Some(entry) = self.l2_entry else { return Vec::new() };
        if entry.is_compressed() {
            let x = self.geometry.compressed_offset_bits();
            return split(
                entry.bits(),
                &[
                    (63, 63, "COPIED"),
                    (62, 62, "compressed"),
                    (x, 61, "additional sectors"),
                    (0, x - 1, "host offset"),
                ],
            );
        }
        split(
            entry.bits(),
            &[
                (63, 63, "COPIED"),
                (62, 62, "compressed"),
                (56, 61, "reserved"),
                (9, 55, "host offset / 512"),
                (1, 8, "reserved"),
                (0, 0, "zero"),
            ],
        )
    }
}

fn split(bits: u64, groups: &[(u32, u32, &'static str)]) -> Vec<EntryBits> {
    let group = |&(low, high, name): &(u32, u32, &'static str)| {
        let mask = u64::MAX >> (63 - (high - low));
        EntryBits { low, high, value: (bits >> low) & mask, name }
    };
    groups.iter().map(group).collect()
}
