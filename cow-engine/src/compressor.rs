//! Compressing clusters: the part of a compressed write that needs no image and no lock, so that
//! many threads can do it at once.

use qcow2_format::CompressionType;

#[cfg(feature = "deflate")]
use crate::compression::Deflater;
#[cfg(feature = "zstd")]
use crate::compression::Squeezer;
use crate::error::{Error, Feature, Result};

/// Level of deflate whose ratio is that of the reference implementation.
const DEFLATE_LEVEL: u32 = 6;
/// Level of zstd that the reference implementation uses.
const ZSTD_LEVEL: i32 = 3;

/// Compresses clusters of one image; make one per thread.
#[derive(Debug)]
pub struct Compressor {
    method: Method,
    blob: Vec<u8>,
}

#[derive(Debug)]
enum Method {
    #[cfg(feature = "deflate")]
    Deflate(Box<Deflater>),
    #[cfg(feature = "zstd")]
    Zstd(Box<Squeezer>),
}

impl Compressor {
    /// A compressor of this type at its default level.
    ///
    /// # Errors
    /// The type is compiled out.
    pub fn new(compression: CompressionType, cluster_bytes: u64) -> Result<Self> {
        let method = match compression {
            #[cfg(feature = "deflate")]
            CompressionType::Deflate => Method::Deflate(Box::new(Deflater::new(DEFLATE_LEVEL))),
            #[cfg(feature = "zstd")]
            CompressionType::Zstd => match Squeezer::new(ZSTD_LEVEL) {
                Some(squeezer) => Method::Zstd(Box::new(squeezer)),
                None => return Err(unsupported(compression)),
            },
            #[cfg(not(all(feature = "deflate", feature = "zstd")))]
            _ => return Err(unsupported(compression)),
        };
        // A blob must save at least a byte, or the cluster is stored as it is.
        let room = usize::try_from(cluster_bytes.saturating_sub(1)).unwrap_or(0);
        Ok(Self { method, blob: vec![0; room] })
    }

    /// Compresses one whole cluster; `None` when it does not get smaller.
    pub fn compress(&mut self, cluster: &[u8]) -> Option<&[u8]> {
        let len = match &mut self.method {
            #[cfg(feature = "deflate")]
            Method::Deflate(deflater) => deflater.deflate(cluster, &mut self.blob)?,
            #[cfg(feature = "zstd")]
            Method::Zstd(squeezer) => squeezer.squeeze(cluster, &mut self.blob)?,
        };
        self.blob.get(..len)
    }
}

const fn unsupported(compression: CompressionType) -> Error {
    let feature = match compression {
        CompressionType::Deflate => Feature::Deflate,
        CompressionType::Zstd => Feature::Zstd,
    };
    Error::Unsupported { feature, readable: false }
}
