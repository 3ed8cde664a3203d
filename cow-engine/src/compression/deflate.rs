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
pub(crate) struct Deflater {
    stream: Compress,
    level: u32,
    /// Room for any stream, also one that is longer than its cluster.
    stream_bytes: Vec<u8>,
}

impl Deflater {
    pub(crate) fn new(level: u32) -> Self {
        Self { stream: stream(level), level, stream_bytes: Vec::new() }
    }

    /// Compresses a cluster into `blob`; `None` when it does not fit.
    ///
    /// The library never gets too little room: what it could not put out it still has after a reset,
    /// and a few such clusters later it stops with a panic.
    pub(crate) fn deflate(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize> {
        // At worst nine bits for each byte, or a block of stored bytes with its head.
        self.stream_bytes.resize(cluster.len() + cluster.len() / 8 + 128, 0);
        self.stream.reset();
        let done = self.stream.compress(cluster, &mut self.stream_bytes, FlushCompress::Finish);
        if !matches!(done, Ok(Status::StreamEnd)) {
            self.stream = stream(self.level);
            return None;
        }
        let len = usize::try_from(self.stream.total_out()).ok()?;
        blob.get_mut(..len)?.copy_from_slice(self.stream_bytes.get(..len)?);
        Some(len)
    }
}

fn stream(level: u32) -> Compress {
    Compress::new_with_window_bits(Compression::new(level), false, WINDOW_BITS)
}
