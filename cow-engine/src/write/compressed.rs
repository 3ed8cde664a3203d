//! Compressed writes: whole clusters, packed byte after byte into shared host clusters.
//!
//! The blob is written before its entry is published, so that no crash can expose garbage.

use cluster_map::{ClusterType, Mapping};
use qcow2_format::{CompressedDescriptor, GuestOffset};

use crate::compressor::Compressor;
use crate::error::{Error, Purpose, Result};
use crate::image::{Image, Writer};

impl Image {
    /// A compressor for this image's compression type; make one per thread.
    ///
    /// # Errors
    /// The type is compiled out.
    pub fn compressor(&self) -> Result<Compressor> {
        self.compressor_with_level(None)
    }

    /// A compressor for this image's compression type at a level, as for
    /// [`Compressor::with_level`].
    ///
    /// # Errors
    /// The type is compiled out, or has no such level.
    pub fn compressor_with_level(&self, level: Option<i32>) -> Result<Compressor> {
        let cluster_bytes = self.geometry().cluster_bytes();
        Compressor::with_level(self.compression_type(), cluster_bytes, level)
    }

    /// Compresses and writes one or more whole clusters; the last one of the disk may be shorter
    /// and is padded with zeros. A cluster that does not get smaller is stored as it is.
    ///
    /// # Errors
    /// The range does not consist of whole clusters, a cluster is allocated already, the compressor
    /// is for another compression type or cluster size, or as for [`write_at`](Image::write_at).
    pub fn write_compressed_at(
        &self,
        compressor: &mut Compressor,
        offset: u64,
        buf: &[u8],
    ) -> Result<()> {
        self.check_range(offset, buf.len() as u64)?;
        let cluster_bytes = self.geometry().cluster_bytes();
        if !compressor.serves(self.compression_type(), cluster_bytes) {
            return Err(Error::Plan { reason: "the compressor is one for other images" });
        }
        let end = offset + buf.len() as u64;
        let whole = |at: u64| at.is_multiple_of(cluster_bytes);
        if !whole(offset) || !(whole(end) || end == self.virtual_size()) {
            return Err(Error::Plan { reason: "a compressed write must cover whole clusters" });
        }
        for (number, cluster) in buf.chunks(cluster_bytes as usize).enumerate() {
            let at = offset + number as u64 * cluster_bytes;
            if cluster.len() as u64 == cluster_bytes {
                self.write_one_compressed(compressor, at, cluster, cluster.len())?;
            } else {
                let mut padded = cluster.to_vec();
                padded.resize(cluster_bytes as usize, 0);
                self.write_one_compressed(compressor, at, &padded, cluster.len())?;
            }
        }
        Ok(())
    }

    /// Writes a cluster, of which the first `inside` bytes lie inside the disk.
    fn write_one_compressed(
        &self,
        compressor: &mut Compressor,
        offset: u64,
        cluster: &[u8],
        inside: usize,
    ) -> Result<()> {
        match compressor.compress(cluster) {
            Some(blob) => self.write_blob(offset, blob),
            None => {
                self.refuse_allocated(GuestOffset::new(offset))?;
                self.write_at(offset, cluster.get(..inside).unwrap_or(cluster))
            }
        }
    }

    /// Stores what a [`Compressor`] made of the cluster at guest byte `offset`.
    ///
    /// # Errors
    /// The offset is not that of a cluster, the cluster is allocated already, or as for
    /// [`write_at`](Image::write_at).
    pub fn write_blob(&self, offset: u64, blob: &[u8]) -> Result<()> {
        self.marking(self.place_blob(offset, blob))
    }

    fn place_blob(&self, offset: u64, blob: &[u8]) -> Result<()> {
        self.check_range(offset, 1)?;
        let writer = self.writer()?;
        if self.dialect.has_external_data() {
            return Err(Error::Plan {
                reason: "an external data file cannot hold compressed clusters",
            });
        }
        let (geometry, guest) = (self.geometry(), GuestOffset::new(offset));
        if !geometry.is_cluster_aligned(offset) || blob.len() as u64 >= geometry.cluster_bytes() {
            return Err(Error::Plan { reason: "a blob stands for one whole cluster" });
        }
        self.relieve()?;
        let _held = self.in_flight.hold(offset, offset + geometry.cluster_bytes());
        self.refuse_allocated(guest)?;
        let slice = self.slice_for_change(writer, guest)?;
        let descriptor = self.store_blob(writer, blob)?;
        let place = self.slice_place(guest);
        let mapping = Mapping::standard(descriptor.encode(geometry));
        self.slices.publish(place.number, &slice, place.index, mapping);
        Ok(())
    }

    /// Finds room for a blob and writes it; the room is given back when that fails.
    fn store_blob(&self, writer: &Writer, blob: &[u8]) -> Result<CompressedDescriptor> {
        let len = blob.len() as u64;
        let host = writer.allocator.reserve_bytes(&writer.map, len)?;
        let stored = CompressedDescriptor::new(self.geometry(), host, len)
            .map_err(Error::from)
            .and_then(|descriptor| {
                self.poison.check()?;
                self.storage
                    .write_at(host.get(), blob)
                    .map_err(Error::storage(Purpose::CompressedCluster))?;
                self.note_written();
                Ok(descriptor)
            });
        if stored.is_err() {
            let run = writer.allocator.byte_run(host, len);
            self.poison.guard(writer.allocator.release(&writer.map, run))?;
        }
        stored
    }

    /// Compressed writes only go where the image keeps no host cluster.
    fn refuse_allocated(&self, guest: GuestOffset) -> Result<()> {
        let mapping = self.mapping(guest)?;
        match self.cluster_type(guest, mapping)? {
            ClusterType::Unallocated | ClusterType::ZeroPlain => Ok(()),
            _ => Err(Error::Allocated { guest }),
        }
    }
}
