//! Compressed clusters: reading and inflating one, and remembering the last few.
//!
//! The descriptor says how many bytes may be read, not how long the stream is; what follows the
//! stream in its last sector means nothing. Output goes into a buffer of exactly one cluster, so
//! no stream can make it grow.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use qcow2_format::{CompressedDescriptor, CompressionType};

#[cfg(not(all(feature = "deflate", feature = "zstd")))]
use crate::error::Feature;
use crate::error::{DecompressFault, Error, Purpose, Result};
use crate::image::Image;
use crate::sync::Mutex;

#[cfg(feature = "deflate")]
mod deflate;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(feature = "zstd")]
pub(crate) use self::zstd::Squeezer;
#[cfg(feature = "deflate")]
pub(crate) use deflate::Deflater;

/// Inflated clusters that are kept: small reads of one cluster come in a row.
const CLUSTERS_KEPT: usize = 4;

/// The last few inflated clusters.
#[derive(Debug, Default)]
pub(crate) struct ClusterCache {
    clusters: Mutex<VecDeque<(CompressedDescriptor, Arc<[u8]>)>>,
}

impl ClusterCache {
    /// The inflated cluster of a descriptor, made by `inflate` outside the lock if it is not here.
    pub(crate) fn get_or_insert(
        &self,
        descriptor: CompressedDescriptor,
        inflate: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<[u8]>> {
        let lock = || self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cluster)) = lock().iter().find(|(known, _)| *known == descriptor) {
            return Ok(Arc::clone(cluster));
        }
        let cluster: Arc<[u8]> = inflate()?.into();
        let mut clusters = lock();
        clusters.truncate(CLUSTERS_KEPT - 1);
        clusters.push_front((descriptor, Arc::clone(&cluster)));
        Ok(cluster)
    }

    /// Forgets everything: host clusters are about to be used for something else.
    pub(crate) fn clear(&self) {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Image {
    /// Reads and inflates a compressed cluster: always exactly one cluster of bytes.
    pub(crate) fn inflate(&self, descriptor: CompressedDescriptor) -> Result<Vec<u8>> {
        let mut compressed = vec![0; descriptor.readable_bytes() as usize];
        let host = descriptor.host_offset();
        // The last blob of a file may end before its last sector does.
        let found = self
            .storage
            .read_at(host.get(), &mut compressed)
            .map_err(Error::storage(Purpose::CompressedCluster))?;
        compressed.truncate(found);
        let mut cluster = vec![0; self.geometry().cluster_bytes() as usize];
        inflate_into(self.compression_type(), &compressed, &mut cluster)?
            .map_err(|fault| Error::Decompress { host, fault })?;
        Ok(cluster)
    }
}

/// Inflates into exactly `cluster`. The outer error says that the type is compiled out.
#[cfg_attr(
    not(any(feature = "deflate", feature = "zstd")),
    expect(unused_variables, reason = "without any decoder nothing looks at the bytes")
)]
fn inflate_into(
    compression: CompressionType,
    compressed: &[u8],
    cluster: &mut [u8],
) -> Result<Result<(), DecompressFault>> {
    match compression {
        #[cfg(feature = "deflate")]
        CompressionType::Deflate => Ok(deflate::inflate(compressed, cluster)),
        #[cfg(not(feature = "deflate"))]
        CompressionType::Deflate => {
            Err(Error::Unsupported { feature: Feature::Deflate, readable: false })
        }
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => Ok(zstd::inflate(compressed, cluster)),
        #[cfg(not(feature = "zstd"))]
        CompressionType::Zstd => {
            Err(Error::Unsupported { feature: Feature::Zstd, readable: false })
        }
    }
}
