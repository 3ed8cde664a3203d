//! Copying what chains show into another image: read, look for zeros and write at the same time.
//!
//! One thread walks over the allocation of the sources and cuts what has to be copied into
//! pieces; readers fetch them; a writer (or the readers themselves, where order does not matter)
//! writes what is not zero. Holes are never read, and memory is bounded by the number of pieces
//! in flight.

mod error;
mod pack;
mod pipeline;
mod plan;
mod source;
mod stream;

use chain::Chain;

pub use error::ConvertError;
use pipeline::Pipeline;
use plan::{Planner, Units};
use source::Source;
pub use stream::{
    IncomingImage, Spill, StreamError, StreamInOptions, StreamLayout, StreamOptions, plan_stream,
    stream_in_raw, stream_out,
};

/// Longest run of zeros that is looked for in data, in bytes: it has to fit into a piece, and
/// each reader holds two of them.
pub const SPARSE_BYTES_MAX: u64 = 16 << 20;

/// How to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Shortest run of zeros in the data that is left out, in bytes, rounded up to clusters or
    /// subclusters of the target; 0 copies everything, even what the sources do not allocate, but still not what
    /// stays visible in a backing file of the target. More than
    /// [`SPARSE_BYTES_MAX`] counts as that.
    pub sparse: u64,
    /// Pieces read at the same time.
    pub readers: usize,
    /// Writes may happen in any order: faster, and less tidy on the host.
    pub out_of_order: bool,
    /// Everything in the target reads as zeros already.
    pub target_is_zero: bool,
    /// Keep the host space that the target has been given in advance, also where it is to read as
    /// zeros.
    pub keep_space: bool,
    /// The target has a backing file of this size: what the top layer of the source does not
    /// hold stays unallocated.
    pub target_backing: Option<u64>,
    /// Compress every cluster of a qcow2 target. Clusters are then written in guest order, one
    /// packed behind the other.
    pub compress: bool,
    /// Level of the compression: 2 to 9 for zlib, 1 to 19 for zstd, `None` for the default.
    pub compression_level: Option<i32>,
    /// Go on after read errors, with zeros in their place.
    pub salvage: bool,
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            sparse: 4096,
            readers: 8,
            out_of_order: false,
            target_is_zero: false,
            keep_space: false,
            target_backing: None,
            compress: false,
            compression_level: None,
            salvage: false,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvertReport {
    /// Bytes read from the sources.
    pub read: u64,
    /// Bytes written to the target, zeros not counted.
    pub written: u64,
    /// Bytes that could not be read and became zeros.
    pub unreadable: u64,
}

/// Copies the sources, one after the other, to the start of `target`. `progress` is told how
/// many bytes of the sources are behind us. The target is not flushed.
///
/// # Errors
/// The target is too small, or reading or writing failed; the target is then incomplete.
pub fn convert(
    sources: &[Chain],
    target: &Chain,
    options: &ConvertOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ConvertReport, ConvertError> {
    let source = Source::new(sources);
    let (needed, found) = (source.size(), target.virtual_size());
    if found < needed {
        return Err(ConvertError::TargetTooSmall { needed, found });
    }
    let units = Units::of(target, options);
    let planner = Planner::new(&source, options, units);
    Pipeline::new(&source, target, options, units, progress).run(planner)
}
