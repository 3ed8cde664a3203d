//! Raw deflate (compression type 0): no zlib header. Reading accepts distances up to 32 KiB;
//! writing never goes back further than 4 KiB, because strict readers use a 12-bit window.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::DecompressFault;

/// Window of the compressor, as a power of two: 4 KiB.
const WINDOW_BITS: u8 = 12;

/// Inflates until the cluster is full. The stream may have more to say; less is damage.
pub(crate) fn inflate(compressed: &[u8], cluster: &mut [u8]) -> Result<(), DecompressFault> {
    let mut stream = Decompress::new(false);
    let status = stream
        .decompress(compressed, cluster, FlushDecompress::Finish)
        .map_err(|_| DecompressFault::Damaged)?;
    let full = usize::try_from(stream.total_out()) == Ok(cluster.len());
    match status {
        _ if full => Ok(()),
        Status::StreamEnd => Err(DecompressFault::TooShort),
        Status::Ok | Status::BufError => Err(DecompressFault::Incomplete),
    }
}

/// A compressor for clusters, used again and again.
#[derive(Debug)]
pub(crate) struct Deflater(Compress);

impl Deflater {
    pub(crate) fn new(level: u32) -> Self {
        Self(Compress::new_with_window_bits(Compression::new(level), false, WINDOW_BITS))
    }

    /// Compresses a cluster into `blob`; `None` when it does not fit.
    pub(crate) fn deflate(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize> {
        self.0.reset();
        // Anything but the end of the stream means that the room was not enough.
        match self.0.compress(cluster, blob, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => usize::try_from(self.0.total_out()).ok(),
            _ => None,
        }
    }
}
