//! zstd (compression type 1): one or more complete frames that yield exactly a cluster; what
//! follows them in the last sector is ignored.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::error::DecompressFault;

/// Largest window a frame may ask for, as a power of two: what every decoder should support, and
/// four times the largest cluster. More is memory that a hostile frame wants.
const WINDOW_BITS_MAX: u32 = 23;

/// Inflates until the cluster is full; the frame must be complete at that moment.
pub(crate) fn inflate(compressed: &[u8], cluster: &mut [u8]) -> Result<(), DecompressFault> {
    let cluster_bytes = cluster.len();
    let mut decoder = Decoder::new().map_err(|_| DecompressFault::Damaged)?;
    decoder
        .set_parameter(DParameter::WindowLogMax(WINDOW_BITS_MAX))
        .map_err(|_| DecompressFault::Damaged)?;
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

/// A compressor for clusters, used again and again.
pub(crate) struct Squeezer(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Squeezer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Squeezer").finish_non_exhaustive()
    }
}

impl Squeezer {
    /// `None` when the library refuses the level.
    pub(crate) fn new(level: i32) -> Option<Self> {
        zstd::bulk::Compressor::new(level).ok().map(Self)
    }

    /// Compresses a cluster into `blob`, one frame with its content size; `None` when it does
    /// not fit.
    pub(crate) fn squeeze(&mut self, cluster: &[u8], blob: &mut [u8]) -> Option<usize> {
        self.0.compress_to_buffer(cluster, blob).ok()
    }
}
