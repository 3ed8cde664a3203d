//! `qimg commit`: what the top of a chain holds moves into a layer below it.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use qimg::chain::{Commit, Error, LayerRef, Refusal};

use super::one_file;
use super::operation::{OPERATION_STEP, Watched, rate, words};
use crate::args::cache::{CACHE_WORDS, CacheMode, cache_flag};
use crate::args::image::ImageArg;
use crate::called;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, chain_options, format_of};

/// The command line of `qimg commit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the progress in percent
    #[arg(short, long)]
    progress: bool,
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Cache mode of the images: writeback (default), none, writethrough, directsync or unsafe
    #[arg(short = 't', long, value_name = "CACHE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Leave in the overlay what it holds
    #[arg(short, long = "drop")]
    drop: bool,
    /// Layer that takes the data, instead of the backing file; the overlay keeps what it holds
    #[arg(short, long, value_name = "BASE", allow_hyphen_values = true)]
    base: Option<PathBuf>,
    /// Bytes per second at most
    #[arg(short, long, value_name = "RATE", allow_hyphen_values = true)]
    rate: Option<String>,
    /// Commit although other overlays in the folder rest on layers that change
    #[arg(long)]
    force: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Guess the format of files below the image where it is not recorded (unsafe)
    #[arg(long)]
    probe_backing: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// The chain cannot be opened, the commit is refused, or reading or writing failed.
pub fn run(args: &Args) -> Outcome {
    let file = one_file("commit", &args.files)?;
    let rate = rate(args.rate.as_deref())?;
    let cache = cache_flag(args.cache.as_deref(), CACHE_WORDS)?.unwrap_or_default();
    super::refuse_objects(&args.object)?;
    let image = ImageArg::parse(file, args.format.as_deref(), args.image_opts)?;
    let commit = commit(args, &image, cache)?;
    let refuse = |error: &Error| Failure::new(commit_words(args, &image, error));
    if args.dry_run {
        let plan = commit.plan().map_err(|error| refuse(&error))?;
        write!(std::io::stdout(), "{plan}")?;
        return Ok(exit::SUCCESS);
    }
    let (quiet, lines) = (args.quiet, args.progress && !args.quiet);
    let watched = Watched { quiet, lines, step: OPERATION_STEP, rate };
    watched
        .run(|watch| commit.run(watch))
        .map_err(|stopped| stopped.failure("Block job failed", refuse))?;
    if !args.quiet {
        writeln!(std::io::stdout(), "Image committed.")?;
    }
    Ok(exit::SUCCESS)
}

fn commit(args: &Args, image: &ImageArg, cache: CacheMode) -> Result<Commit, Failure> {
    let refuse = |reason| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let (format, _) = format_of(image).map_err(refuse)?;
    let how = How { probe_backing: args.probe_backing, cache, ..How::default() };
    let options = chain_options(image, &how, format, false);
    // The real tool looks at nobody else, and neither does who stands in for it.
    let force = args.force || called::stands_in();
    let commit = Commit::new(&image.path, options).keep(args.drop).force(force);
    Ok(match &args.base {
        None => commit,
        Some(base) => commit.into_layer(LayerRef::File(base.clone())).only_data(true),
    })
}

fn commit_words(args: &Args, image: &ImageArg, error: &Error) -> String {
    match (error, &args.base) {
        (Error::Refused(Refusal::NoBackingFile { .. }), _) => {
            "Image does not have a backing file".to_owned()
        }
        (Error::Refused(Refusal::NotInChain { .. } | Refusal::NotBelow { .. }), Some(base)) => {
            let base = base.display();
            format!("Did not find '{base}' in the backing chain of '{}'", image.name)
        }
        (Error::Refused(_) | Error::Cancelled, _) => words(error),
        _ => format!("Could not open '{}': {}", image.name, words(error)),
    }
}
