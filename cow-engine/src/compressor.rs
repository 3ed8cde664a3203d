//! Compressing clusters: the part of a compressed write that needs no image and no lock, so that
//! many threads can do it at once.

use core::fmt::Debug;
#[cfg(any(feature = "deflate", feature = "zstd"))]
use core::ops::RangeInclusive;

use qcow2_format::CompressionType;

#[cfg(feature = "deflate")]
use crate::compression::Deflater;
#[cfg(feature = "zstd")]
use crate::compression::Squeezer;
#[cfg(not(all(feature = "deflate", feature = "zstd")))]
use crate::error::Feature;
use crate::error::{Error, Result};

/// Level of deflate whose ratio is that of the reference implementation.
#[cfg(feature = "deflate")]
const DEFLATE_LEVEL: i32 = 6;
/// Levels of deflate. Below them the library's fast path has been seen to give up on tight output
/// buffers.
#[cfg(feature = "deflate")]
const DEFLATE_LEVELS: RangeInclusive<i32> = 2..=9;
/// Level of zstd that the reference implementation uses.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;
/// Levels of zstd. Those above are for what is much larger than a cluster.
#[cfg(feature = "zstd")]
const ZSTD_LEVELS: RangeInclusive<i32> = 1..=19;

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
        Self::with_level(compression, cluster_bytes, None)
    }

    /// A compressor of this type at a level: 2 to 9 for deflate, 1 to 19 for zstd; `None` means the
    /// default, which is that of the reference implementation (6 and 3). Higher levels are slower
    /// and find more; readers do not care.
    ///
    /// # Errors
    /// The type is compiled out, or has no such level.
    pub fn with_level(
        compression: CompressionType,
        cluster_bytes: u64,
        level: Option<i32>,
    ) -> Result<Self> {
        let method = method(compression, level)?;
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

#[cfg_attr(
    not(any(feature = "deflate", feature = "zstd")),
    expect(unused_variables, reason = "without any compressor nobody asks for a level")
)]
fn method(compression: CompressionType, level: Option<i32>) -> Result<Box<dyn Method>> {
    match compression {
        #[cfg(feature = "deflate")]
        CompressionType::Deflate => {
            let level = level.unwrap_or(DEFLATE_LEVEL);
            match u32::try_from(level) {
                Ok(value) if DEFLATE_LEVELS.contains(&level) => Ok(Box::new(Deflater::new(value))),
                _ => Err(no_such_level(level, "2 to 9 for zlib")),
            }
        }
        #[cfg(feature = "zstd")]
        CompressionType::Zstd => {
            let level = level.unwrap_or(ZSTD_LEVEL);
            match Squeezer::new(level).filter(|_| ZSTD_LEVELS.contains(&level)) {
                Some(squeezer) => Ok(Box::new(squeezer)),
                None => Err(no_such_level(level, "1 to 19 for zstd")),
            }
        }
        #[cfg(not(all(feature = "deflate", feature = "zstd")))]
        _ => Err(unsupported(compression)),
    }
}

#[cfg(any(feature = "deflate", feature = "zstd"))]
fn no_such_level(level: i32, allowed: &'static str) -> Error {
    Error::Option { name: "compression level", found: level.to_string(), allowed }
}

#[cfg(not(all(feature = "deflate", feature = "zstd")))]
const fn unsupported(compression: CompressionType) -> Error {
    let feature = match compression {
        CompressionType::Deflate => Feature::Deflate,
        CompressionType::Zstd => Feature::Zstd,
    };
    Error::Unsupported { feature, readable: false }
}
