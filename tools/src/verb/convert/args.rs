//! The command line of `qimg convert`.

use std::ffi::OsString;

/// The command line of `qimg convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print percentages
    #[arg(short, long)]
    pub(super) progress: bool,
    /// Format of the sources (guessed when absent)
    #[arg(short = 'f', long, value_name = "FMT", allow_hyphen_values = true)]
    pub(super) source_format: Option<String>,
    /// The source arguments are lists of options: driver=qcow2,file.filename=PATH
    #[arg(long, alias = "source-image-opts")]
    pub(super) image_opts: bool,
    /// Not offered: copy an internal snapshot
    #[arg(short = 'l', long, value_name = "SNAPSHOT", allow_hyphen_values = true)]
    pub(super) source_snapshot: Option<String>,
    /// Cache mode of the sources
    #[arg(short = 'T', long, value_name = "MODE", allow_hyphen_values = true)]
    pub(super) source_cache: Option<String>,
    /// Format of the target: raw (default) or qcow2
    #[arg(short = 'O', long, value_name = "FMT", allow_hyphen_values = true)]
    pub(super) target_format: Option<String>,
    /// The target argument is a list of options (with -n)
    #[arg(long)]
    pub(super) target_image_opts: bool,
    /// Options of the target's format; '-o help' lists them
    #[arg(short = 'o', long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub(super) target_options: Vec<String>,
    /// Compress the target
    #[arg(short, long)]
    pub(super) compress: bool,
    /// How hard to compress: 2 to 9 for zlib (default 6), 1 to 19 for zstd (default 3)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) compression_level: Option<i32>,
    /// Cache mode of the target (default unsafe: not flushed at the end)
    #[arg(short = 't', long, value_name = "MODE", allow_hyphen_values = true)]
    pub(super) target_cache: Option<String>,
    /// Put the target on top of this image, and copy only what the top source holds itself
    #[arg(short = 'B', long, value_name = "FILE", allow_hyphen_values = true)]
    pub(super) backing: Option<String>,
    /// Format of the backing file; mandatory with -B
    #[arg(short = 'F', long, value_name = "FMT", allow_hyphen_values = true)]
    pub(super) backing_format: Option<String>,
    /// The target exists
    #[arg(short, long)]
    pub(super) no_create: bool,
    /// The target of -n reads as zeros everywhere
    #[arg(long)]
    pub(super) target_is_zero: bool,
    /// Shortest run of zeros that is left out (default 4k, 0 leaves out nothing)
    #[arg(short = 'S', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(super) sparse_size: Option<String>,
    /// Not offered: copy persistent bitmaps too
    #[arg(long)]
    pub(super) bitmaps: bool,
    /// With --bitmaps
    #[arg(long)]
    pub(super) skip_broken_bitmaps: bool,
    /// Guess the format of backing files whose overlay does not name it (unsafe)
    #[arg(long)]
    pub(super) probe_backing: bool,
    /// Open the sources although somebody may be writing to them
    #[arg(short = 'U', long)]
    pub(super) force_share: bool,
    /// Bytes per second at most
    #[arg(short, long, value_name = "RATE", allow_hyphen_values = true)]
    pub(super) rate: Option<String>,
    /// Reads at the same time, 1 to 16 (default 8)
    #[arg(short = 'm', long, value_name = "N", allow_hyphen_values = true)]
    pub(super) parallel: Option<String>,
    /// Accepted for compatibility, without effect: data is always read and written
    #[arg(short = 'C', long)]
    pub(super) copy_range_offloading: bool,
    /// Go on after read errors, with zeros in their place
    #[arg(long)]
    pub(super) salvage: bool,
    /// Write in any order
    #[arg(short = 'W', long)]
    pub(super) oob_writes: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    pub(super) object: Vec<String>,
    /// Most bytes of a qcow2 image from standard input that may wait for their place (default 1G)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(super) spill_limit: Option<String>,
    /// Where they wait (default TMPDIR, or /tmp)
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    pub(super) spill_dir: Option<OsString>,
    /// Sources, one behind the other, then the target; '-' is standard input or output
    #[arg(value_name = "SOURCE... TARGET")]
    pub(super) files: Vec<OsString>,
}
