//! Which flags of `convert` go together, in the order in which qemu-img complains.

use std::ffi::OsString;

use qimg::chain::Format;
use qimg::convert::SPARSE_BYTES_MAX;
use qimg::engine::Compressor;
use qimg::format::CompressionType;

use super::Args;
use crate::args::cache::{CACHE_WORDS, CacheMode, SOURCE_CACHE_WORDS, cache_flag};
use crate::args::image::{ImageArg, format_known};
use crate::args::number::in_range;
use crate::args::size::{self, SizeError};
use crate::creation::help;
use crate::creation::options::{Options, wants_help};
use crate::creation::settings;
use crate::failure::Failure;
use crate::verb::refuse_objects;

/// `-S` when nobody says.
const SPARSE_DEFAULT: u64 = 4096;
/// `-m` when nobody says.
const PARALLEL_DEFAULT: u64 = 8;

/// What the flags mean.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sources: Vec<ImageArg>,
    pub(super) target: OsString,
    pub(super) target_format: Format,
    /// What a new target is like.
    pub(super) options: Options,
    pub(super) sparse: u64,
    pub(super) parallel: usize,
    pub(super) source_cache: CacheMode,
    pub(super) target_cache: CacheMode,
    /// Bytes per second at most.
    pub(super) rate: Option<u64>,
}

/// The text of `-o help`, if that is what was asked for.
pub(super) fn help(args: &Args) -> Result<Option<String>, Failure> {
    if !wants_help(&args.target_options)? {
        return Ok(None);
    }
    let format = target_format(args)?;
    Ok(Some(help::render(format, !args.files.is_empty())))
}

/// Reads and checks all flags; nothing is opened.
pub(super) fn plan(args: &Args) -> Result<Plan, Failure> {
    let sparse = sparse(args)?;
    let parallel = parallel(args)?;
    let rate = rate(args)?;
    refuse_objects(&args.object)?;
    let (sources, target) = match args.files.as_slice() {
        [] | [_] => return Err(Failure::new("Must specify image file name")),
        [sources @ .., target] => (sources, target.clone()),
    };
    check_combinations(args, sources.len())?;
    let target_format = target_format(args)?;
    let options = options(args, target_format)?;
    check_backing(args, &options, target_format, sources.len())?;
    check_level(args, &options)?;
    let target_cache = cache_flag(args.target_cache.as_deref(), CACHE_WORDS)?;
    let source_cache = cache_flag(args.source_cache.as_deref(), SOURCE_CACHE_WORDS)?;
    let parse =
        |name: &OsString| ImageArg::parse(name, args.source_format.as_deref(), args.image_opts);
    let sources = sources.iter().map(parse).collect::<Result<_, _>>()?;
    let target_cache = target_cache.unwrap_or(CacheMode::Unsafe);
    let source_cache = source_cache.unwrap_or_default();
    Ok(Plan {
        sources,
        target,
        target_format,
        options,
        sparse,
        parallel,
        source_cache,
        target_cache,
        rate,
    })
}

fn refuse<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(message))
}

fn sparse(args: &Args) -> Result<u64, Failure> {
    let Some(text) = &args.sparse_size else { return Ok(SPARSE_DEFAULT) };
    match size::parse(text) {
        Ok(bytes) if bytes.is_multiple_of(512) && bytes <= SPARSE_BYTES_MAX => Ok(bytes),
        Err(SizeError::Syntax) => {
            refuse(format!("Invalid buffer size for sparse output specified: '{text}'."))
        }
        _ => refuse(format!(
            "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 \
             up to {SPARSE_BYTES_MAX}. Select 0 to disable sparse detection (fully allocates output)."
        )),
    }
}

fn parallel(args: &Args) -> Result<usize, Failure> {
    let Some(text) = &args.parallel else { return Ok(PARALLEL_DEFAULT as usize) };
    match text.parse::<i64>() {
        Ok(count @ 1..=16) => Ok(count as usize),
        Ok(_) => refuse("Invalid number of coroutines specified. Must be between 1 and 16."),
        Err(_) => refuse(format!("Invalid number of coroutines specified: '{text}'.")),
    }
}

/// Bytes per second at most; 0 stands for no limit.
fn rate(args: &Args) -> Result<Option<u64>, Failure> {
    let Some(text) = &args.rate else { return Ok(None) };
    Ok(Some(in_range(text, "rate limit", 0, size::MAX)?).filter(|rate| *rate > 0))
}

fn target_format(args: &Args) -> Result<Format, Failure> {
    let name = args.target_format.as_deref().unwrap_or("raw");
    format_known(name, |name| format!("Format driver '{name}' does not support image creation"))
}

fn check_combinations(args: &Args, sources: usize) -> Result<(), Failure> {
    let rows = [
        (
            args.image_opts && args.source_format.is_some(),
            "--image-opts and --format are mutually exclusive",
        ),
        (
            args.skip_broken_bitmaps && !args.bitmaps,
            "Use of --skip-broken-bitmaps requires --bitmaps",
        ),
        (args.target_is_zero && !args.no_create, "--target-is-zero requires use of -n flag"),
        (args.target_image_opts && !args.no_create, "--target-image-opts requires use of -n flag"),
        (
            args.no_create && !args.target_options.is_empty(),
            "-o has no effect when skipping image creation",
        ),
        (
            args.copy_range_offloading && args.compress,
            "Cannot enable copy offloading when -c is used",
        ),
        (
            args.copy_range_offloading && args.sparse_size.is_some(),
            "Cannot enable copy offloading when -S is used",
        ),
        (
            args.salvage && args.copy_range_offloading,
            "Cannot use copy offloading in salvaging mode",
        ),
        (
            args.source_snapshot.is_some() && sources > 1,
            "No support for concatenating multiple snapshot",
        ),
        (args.source_snapshot.is_some(), "-l is not offered yet: snapshots cannot be read"),
        (
            args.compression_level.is_some() && !args.compress,
            "--compression-level requires use of -c flag",
        ),
        (
            args.bitmaps,
            "--bitmaps is not offered yet; leave it out, the data is copied all the same",
        ),
    ];
    match rows.iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => refuse(*message),
        None => Ok(()),
    }
}

fn options(args: &Args, format: Format) -> Result<Options, Failure> {
    let mut options = Options::new(format);
    args.target_options.iter().try_for_each(|list| options.apply(list)).map_err(Failure::new)?;
    settings::refuse_unknown(&options).map_err(Failure::new)?;
    let flags = [("backing_file", &args.backing), ("backing_fmt", &args.backing_format)];
    for (name, value) in flags {
        let Some(value) = value else { continue };
        if !options.knows(name) {
            return refuse(format!("Backing file not supported for file format '{format}'"));
        }
        options.set(name, value.clone());
    }
    Ok(options)
}

/// A level that the compression does not have must not cost anybody an existing target.
fn check_level(args: &Args, options: &Options) -> Result<(), Failure> {
    let compression = match options.get("compression_type") {
        Some("zstd") => CompressionType::Zstd,
        _ => CompressionType::Deflate,
    };
    // With -n the target says how it is compressed, and nothing is lost by asking it.
    let (level, known) = (args.compression_level, !args.no_create);
    if let Some(level) = level.filter(|_| known) {
        Compressor::with_level(compression, 512, Some(level))
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    Ok(())
}

fn check_backing(
    args: &Args,
    options: &Options,
    format: Format,
    sources: usize,
) -> Result<(), Failure> {
    let backing = options.get("backing_file").is_some();
    if backing && sources > 1 {
        return refuse(
            "Having a backing file for the target makes no sense when concatenating multiple \
             input images",
        );
    }
    if backing && options.get("backing_fmt").is_none() {
        return refuse("Use of backing file requires explicit backing format");
    }
    if backing && args.target_is_zero {
        return refuse("Cannot use --target-is-zero when the destination image has a backing file");
    }
    if args.compress && format == Format::Raw {
        return refuse("Compression not supported for this file format");
    }
    if args.compress && options.get("preallocation").is_some_and(|mode| mode != "off") {
        return refuse("Compression and preallocation not supported at the same time");
    }
    Ok(())
}
