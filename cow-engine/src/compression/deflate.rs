//! Raw deflate (compression type 0): no zlib header, any distance up to 32 KiB is accepted.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::DecompressFault;

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
