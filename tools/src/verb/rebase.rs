//! `qimg rebase`: an overlay is put on another backing file, or on none.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use qimg::chain::{Error, Format, Rebase, Refusal};

use super::one_file;
use super::operation::{Watched, words};
use crate::args::cache::{CACHE_WORDS, CacheMode, SOURCE_CACHE_WORDS, cache_flag};
use crate::args::image::{ImageArg, format_named};
use crate::called::{self, advice};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, chain_options, explain, format_of};
use crate::report::progress::COMPARE_STEP;

/// The command line of `qimg rebase`.
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
    /// Cache mode of the image: writeback (default), none, writethrough, directsync or unsafe
    #[arg(short = 't', long, value_name = "CACHE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Cache mode of the backing files
    #[arg(short = 'T', long, value_name = "CACHE", allow_hyphen_values = true)]
    backing_cache: Option<String>,
    /// New backing file, relative to the folder of the image; "" for none
    #[arg(short, long, value_name = "BACKING", allow_hyphen_values = true)]
    backing: Option<String>,
    /// Format of the new backing file
    #[arg(short = 'F', long, value_name = "FMT", allow_hyphen_values = true)]
    backing_format: Option<String>,
    /// Change the header alone: the image shows other bytes unless both backing files show the same
    #[arg(short = 'u', long)]
    backing_unsafe: bool,
    /// Compress what is taken over
    #[arg(short, long)]
    compress: bool,
    /// Read the new backing file although somebody may be writing to it
    #[arg(short = 'U', long)]
    force_share: bool,
    /// Rebase although other overlays rest on the image, or internal snapshots will show other bytes
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
/// An image cannot be opened, the rebase is refused, or reading or writing failed.
pub fn run(args: &Args) -> Outcome {
    let file = one_file("rebase", &args.files)?;
    if args.backing.is_none() && !args.backing_unsafe {
        let message = "Must specify backing file (-b) or use unsafe mode (-u)";
        return Err(Failure::usage("qimg", "rebase", message));
    }
    let cache = cache_flag(args.cache.as_deref(), CACHE_WORDS)?.unwrap_or_default();
    cache_flag(args.backing_cache.as_deref(), SOURCE_CACHE_WORDS)?;
    super::refuse_objects(&args.object)?;
    let image = ImageArg::parse(file, args.format.as_deref(), args.image_opts)?;
    let (rebase, name) = rebase(args, &image, cache)?;
    let refuse = |error: &Error| Failure::new(rebase_words(&image, &name, error));
    if args.dry_run {
        let plan = rebase.plan().map_err(|error| refuse(&error))?;
        write!(std::io::stdout(), "{plan}")?;
        return Ok(exit::SUCCESS);
    }
    let (quiet, lines) = (args.quiet, args.progress && !args.quiet);
    let watched = Watched { quiet, lines, step: COMPARE_STEP, rate: None };
    watched
        .run(|watch| rebase.run(watch))
        .map_err(|stopped| stopped.failure("Error while writing to COW image", refuse))?;
    Ok(exit::SUCCESS)
}

/// What was asked for, and the name of the new backing file.
fn rebase(args: &Args, image: &ImageArg, cache: CacheMode) -> Result<(Rebase, String), Failure> {
    let refuse = |reason| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let named = args.backing_format.as_deref().map(|name| {
        format_named(name).ok_or_else(|| Failure::new(format!("Invalid format name: '{name}'")))
    });
    let backing_format: Option<Format> = named.transpose()?;
    let (format, _) = format_of(image).map_err(refuse)?;
    let how = How { probe_backing: args.probe_backing, cache, ..How::default() };
    let options = chain_options(image, &how, format, false);
    let name = args.backing.clone().unwrap_or_default();
    let rebase = Rebase::new(&image.path, options)
        .header_only(args.backing_unsafe)
        .compress(args.compress)
        .force_share(args.force_share)
        .force(args.force || called::stands_in());
    let rebase = match (name.as_str(), backing_format) {
        ("", _) => rebase,
        (name, Some(format)) => rebase.onto(name, format),
        // A format that nobody says is guessed by whoever opens the image next.
        (name, None) => {
            return Err(Failure::new(format!(
                "Could not change the backing file to '{name}': backing format must be specified{}",
                advice(" (-F)")
            )));
        }
    };
    Ok((rebase, name))
}

fn rebase_words(image: &ImageArg, name: &str, error: &Error) -> String {
    let unchanged =
        |reason: &str| format!("Could not change the backing file to '{name}': {reason}");
    let is_new = |path: &Path| {
        qimg::chain::resolve_name(&image.path, name).is_ok_and(|new| new.as_path() == path)
    };
    match error {
        Error::Refused(Refusal::Raw { .. }) => unchanged("Operation not supported"),
        Error::Storage { layer, .. } if is_new(layer) => {
            format!("Could not open new backing file '{name}': {}", explain(error))
        }
        Error::Image { layer, .. } if is_new(layer) => {
            format!("Could not open new backing file '{name}': {}", explain(error))
        }
        Error::Refused(_) | Error::Cancelled => unchanged(&words(error)),
        Error::Image { source: cow_error, .. } if is_header_space(cow_error) => {
            unchanged("No space left in the file header")
        }
        _ => format!("Could not open '{}': {}", image.name, words(error)),
    }
}

fn is_header_space(error: &qimg::engine::Error) -> bool {
    use qimg::engine::Error as Engine;
    matches!(error, Engine::Format(qimg::format::Error::HeaderSpace { .. }))
}
