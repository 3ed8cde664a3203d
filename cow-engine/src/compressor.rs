//! Compressing clusters: the part of a compressed write that needs no image and no lock, so that
//! many threads can do it at once.

use core::fmt::Debug;

use qcow2_format::CompressionType;

#[cfg(feature = "deflate")]
use crate::compression::Deflater;
#[cfg(feature = "zstd")]
use crate::compression::Squeezer;
use crate::error::{Error, Feature, Result};

/// Level of deflate whose ratio is that of the reference implementation.
#[cfg(feature = "deflate")]
const DEFLATE_LEVEL: u32 = 6;
/// Level of zstd that the reference implementation uses.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;

/// Compresses clusters of one image; make one per thread.
#[derive(Debug)]
pub struct Compressor {
    compression: CompressionType,
    cluster_bytes: u64,
    method: Box<dyn Method>,
    blob: Vec<u8>,
}

/// A way to compress. A trait rather than an enum, so that none of them needs to be compiled in.
trait Method: Debug + Send {
    /// Compresses `cluster` into `blob` and returns the length; `None` when it does not fit.
    fn compress(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize>;
}

#[cfg(feature = "deflate")]
impl Method for Deflater {
    fn compress(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize> {
        self.deflate(cluster, blob)
    }
}

#[cfg(feature = "zstd")]
impl Method for Squeezer {
    fn compress(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize> {
        self.squeeze(cluster, blob)
    }
}

impl Compressor {
    /// A compressor of this type at its default level.
    ///
    /// # Errors
    /// The type is compiled out.
    pub fn new(compression: CompressionType, cluster_bytes: u64) -> Result<Self> {
        let method = method(compression)?;
        // A blob must save at least a byte, or the cluster is stored as it is.
        let room = usize::try_from(cluster_bytes.saturating_sub(1)).unwrap_or(0);
        Ok(Self { compression, cluster_bytes, method, blob: vec![0; room] })
    }

    /// Whether what it makes can be read from images of this kind.
    pub(crate) fn serves(&self, compression: CompressionType, cluster_bytes: u64) -> bool {
        (self.compression, self.cluster_bytes) == (compression, cluster_bytes)
    }

    /// Compresses one whole cluster; `None` when it does not get smaller, or is no whole cluster.
    pub fn compress(&mut self, cluster: &[u8]) -> Option<&[u8]> {
        if cluster.len() as u64 != self.cluster_bytes {
            return None;
        }
        let len = self.method.compress(cluster, &mut self.blob)?;
        self.blob.get(..len)
    }
}

fn method(compression: CompressionType) -> Result<Box<dyn Method>> {
    match compression {
        #[cfg(feature = "deflate")]
        CompressionType::Deflate => Ok(Box::new(Deflater::new(DEFLATE_LEVEL))),
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => match Squeezer::new(ZSTD_LEVEL) {
            Some(squeezer) => Ok(Box::new(squeezer)),
            None => Err(unsupported(compression)),
        },
        #[cfg(not(all(feature = "deflate", feature = "zstd")))]
        _ => Err(unsupported(compression)),
    }
}

const fn unsupported(compression: CompressionType) -> Error {
    let feature = match compression {
        CompressionType::Deflate => Feature::Deflate,
        CompressionType::Zstd => Feature::Zstd,
    };
    Error::Unsupported { feature, readable: false }
}
