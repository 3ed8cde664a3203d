//! zstd (compression type 1): one or more complete frames that yield exactly a cluster; what
//! follows them in the last sector is ignored.

use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::error::DecompressFault;

/// Inflates until the cluster is full; the frame must be complete at that moment.
pub(crate) fn inflate(compressed: &[u8], cluster: &mut [u8]) -> Result<(), DecompressFault> {
    let cluster_bytes = cluster.len();
    let mut decoder = Decoder::new().map_err(|_| DecompressFault::Damaged)?;
    let mut input = InBuffer::around(compressed);
    let mut output = OutBuffer::around(cluster);
    loop {
        let before = (input.pos, output.pos());
        let missing = decoder.run(&mut input, &mut output).map_err(|_| DecompressFault::Damaged)?;
        let stuck = (input.pos, output.pos()) == before;
        match (output.pos() == cluster_bytes, missing) {
            (true, 0) => return Ok(()),
            (true, _) if stuck => return Err(DecompressFault::Incomplete),
            (false, _) if stuck => return Err(DecompressFault::TooShort),
            _ => {}
        }
    }
}
