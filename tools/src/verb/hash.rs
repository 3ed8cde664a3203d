//! `qimg hash`: one hash of what a guest sees, and of its parts.

mod earlier;
mod report;

use std::ffi::{OsStr, OsString};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use qimg::chain::Chain;
use qimg::hash::{GuestHash, HashError, HashOptions, RangeBytes, RangeHash, hash};

use crate::args::output::Output;
use crate::args::size;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::progress::{COMPARE_STEP, Progress};
use earlier::{Changes, Earlier};
use report::{Json, Text};

/// The command line of `qimg hash`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Print percentages
    #[arg(short, long)]
    progress: bool,
    /// A hash for each range of this length, too (a power of two, 64k or more); zeros are left out
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    ranges: Option<String>,
    /// Earlier output of --output=json: say which ranges differ, exit with 1 if any does
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Image files
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// What scripts need to know.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 could not be hashed; with --compare 0 the same, 1 \
                          different, 2 no answer.";

/// Runs the verb.
///
/// # Errors
/// An image cannot be opened or read. When comparing the exit code is then 2, because 1 means
/// "different".
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("hash", args.output.as_deref())?;
    if let Some(earlier) = &args.compare {
        return compare(args, output, earlier)
            .map_err(|failure| failure.with_code(exit::HASH_FAILED));
    }
    if args.files.is_empty() {
        return Err(Failure::usage("qimg", "hash", "Expecting one or more image file names"));
    }
    let ranges = ranges(args)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    match output {
        Output::Human => {
            for file in &args.files {
                Text { out: &mut out }.image(args, file, ranges)?;
            }
        }
        Output::Json => {
            let mut json = Json { out: &mut out, first: true };
            json.begin()?;
            for file in &args.files {
                json.image(args, file, ranges)?;
            }
            json.end()?;
        }
    }
    out.flush()?;
    Ok(exit::SUCCESS)
}

fn ranges(args: &Args) -> Result<Option<RangeBytes>, Failure> {
    let Some(text) = args.ranges.as_deref() else { return Ok(None) };
    let bytes = size::parse(text)
        .map_err(|_| Failure::usage("qimg", "hash", &format!("Invalid range size: '{text}'")))?;
    RangeBytes::new(bytes)
        .map(Some)
        .map_err(|error| Failure::usage("qimg", "hash", &error.to_string()))
}

/// Hashes one image. `on_range` may fail to write; it says so by its result, told here.
fn examine(
    args: &Args,
    file: &OsStr,
    ranges: Option<RangeBytes>,
    on_range: &mut dyn FnMut(RangeHash) -> std::io::Result<()>,
) -> Result<(String, GuestHash), Failure> {
    let (image, opened) = args.source.open(file)?;
    let chain = opened.chain();
    let mut progress =
        Progress::start_beside_data(false, args.progress, COMPARE_STEP, chain.virtual_size());
    let mut written = Ok(());
    let mut tell = |range| {
        if written.is_ok() {
            written = on_range(range);
        }
    };
    let options = HashOptions {
        ranges,
        on_range: Some(&mut tell),
        progress: Some(&mut |behind| progress.set(behind)),
    };
    let hashed = hash(chain, options).map_err(|error| explain(&image.name, chain, &error));
    if hashed.is_ok() {
        progress.complete();
    }
    progress.end();
    let hashed = hashed?;
    written?;
    Ok((image.name, hashed))
}

fn explain(name: &str, chain: &Chain, error: &HashError) -> Failure {
    match chain.depth() {
        1 => Failure::new(format!("'{name}': {error}")),
        layers => Failure::new(format!("'{name}' ({layers} layers): {error}")),
    }
}

/// Hashes an image again and says what changed.
fn compare(args: &Args, output: Output, file: &std::path::Path) -> Outcome {
    let [image] = args.files.as_slice() else {
        return Err(Failure::usage("qimg", "hash", "--compare expects one image file name"));
    };
    let earlier = Earlier::read(file)?;
    let ranges = match ranges(args)? {
        None => earlier.ranges(),
        asked if asked == earlier.ranges() => asked,
        Some(asked) => {
            let message = format!(
                "'{}' has no hashes of ranges of {} bytes; leave out --ranges",
                file.display(),
                asked.get()
            );
            return Err(Failure::new(message));
        }
    };
    let mut changes = Changes::new(&earlier);
    let (name, now) = examine(args, image, ranges, &mut |range| {
        changes.see(range);
        Ok(())
    })?;
    let answer = changes.finish(&now);
    let text = match output {
        Output::Human => report::changes(&name, &answer),
        Output::Json => {
            format!("{}\n", crate::report::json::pretty(&report::answer(&name, &answer))?)
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if answer.is_same() { exit::SUCCESS } else { exit::HASH_DIFFERENT })
}
