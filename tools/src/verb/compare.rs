//! `qimg compare`: whether two images show the same bytes.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};

use qimg::compare::{CompareError, CompareOptions, Comparison, Difference, compare};

use super::refuse_objects;
use crate::args::cache::{CacheMode, SOURCE_CACHE_WORDS, cache_flag};
use crate::args::image::ImageArg;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, Opened, open_for_verb};
use crate::report::progress::{COMPARE_STEP, Progress};

/// The command line of `qimg compare`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the same, 1 different, 2 could not open, 3 could not learn what is \
                  allocated, 4 could not read."
)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print percentages
    #[arg(short, long)]
    progress: bool,
    /// Format of the first image (guessed when absent)
    #[arg(short = 'f', long, value_name = "FMT", allow_hyphen_values = true)]
    a_format: Option<String>,
    /// Format of the second image (guessed when absent)
    #[arg(short = 'F', long, value_name = "FMT", allow_hyphen_values = true)]
    b_format: Option<String>,
    /// The image arguments are lists of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Sizes and allocation must agree too
    #[arg(short, long)]
    strict: bool,
    /// Cache mode of the images
    #[arg(short = 'T', long, value_name = "MODE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Guess the format of backing files whose overlay does not name it (unsafe)
    #[arg(long)]
    probe_backing: bool,
    /// Open them although somebody may be writing to them
    #[arg(short = 'U', long)]
    force_share: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// The two image files
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// An image cannot be opened or read; the exit code says which of the two.
pub fn run(args: &Args) -> Outcome {
    let [first, second] = args.files.as_slice() else {
        return Err(Failure::usage("qimg", "compare", "Expecting two image file names"));
    };
    refuse_objects(&args.object)?;
    let cache = cache(args)?;
    let first = ImageArg::parse(first, args.a_format.as_deref(), args.image_opts)
        .map_err(|failure| failure.with_code(exit::COMPARE_OPEN))?;
    let second = ImageArg::parse(second, args.b_format.as_deref(), args.image_opts)
        .map_err(|failure| failure.with_code(exit::COMPARE_OPEN))?;
    let opened = (open(args, &first, cache)?, open(args, &second, cache)?);
    let comparison = examine(args, &opened.0, &opened.1)?;
    Ok(if comparison.difference.is_none() { exit::SUCCESS } else { exit::COMPARE_DIFFERENT })
}

fn cache(args: &Args) -> Result<CacheMode, Failure> {
    let mode = cache_flag(args.cache.as_deref(), SOURCE_CACHE_WORDS)
        .map_err(|failure| failure.with_code(exit::COMPARE_OPEN))?;
    Ok(mode.unwrap_or_default())
}

fn open(args: &Args, image: &ImageArg, cache: CacheMode) -> Result<Opened, Failure> {
    open_for_verb(image, &How { cache, ..How::reading(args.force_share, args.probe_backing) })
        .map_err(|failure| failure.with_code(exit::COMPARE_OPEN))
}

fn examine(args: &Args, first: &Opened, second: &Opened) -> Result<Comparison, Failure> {
    let (first, second) = (first.chain(), second.chain());
    let total = first.virtual_size().max(second.virtual_size());
    let mut progress = Progress::start(args.quiet, args.progress, COMPARE_STEP, total);
    let options = CompareOptions { strict: args.strict };
    let compared = compare(first, second, options, &mut |behind| progress.set(behind));
    if let Ok(comparison) = &compared {
        if comparison.difference.is_none() {
            progress.complete();
        }
        if !args.quiet {
            tell(&words(comparison))?;
        }
    }
    progress.end();
    compared.map_err(|error| {
        let code = match &error {
            CompareError::Status { .. } => exit::COMPARE_STATUS,
            _ => exit::COMPARE_READ,
        };
        Failure::new(error.to_string()).with_code(code)
    })
}

/// Prints the answer. Failing to must not look like the answer "different"; and when there is
/// nobody left to read it, the exit code is still the answer.
fn tell(words: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(words.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::from(error).with_code(exit::COMPARE_OUTPUT))
        }
        _ => Ok(()),
    }
}

fn words(comparison: &Comparison) -> String {
    let warning = match comparison.difference {
        Some(Difference::Size) => "",
        _ if comparison.size_mismatch => "Warning: Image size mismatch!\n",
        _ => "",
    };
    let answer = match comparison.difference {
        None => "Images are identical.".into(),
        Some(Difference::Size) => "Strict mode: Image size mismatch!".into(),
        Some(Difference::Status { offset }) => {
            format!("Strict mode: Offset {offset} block status mismatch!")
        }
        Some(Difference::Content { offset }) => format!("Content mismatch at offset {offset}!"),
    };
    format!("{warning}{answer}\n")
}
