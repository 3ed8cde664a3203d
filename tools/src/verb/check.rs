//! `qimg check`: the consistency of an image's metadata, and its repair.

mod report;

use std::ffi::OsString;
use std::io::Write;

use qimg::chain::Format;
use qimg::check::{CheckError, CheckOptions, CheckReport, Finding, Repair, check};
use qimg::io::{FileStorage, Lock, Locking, OpenOptions, Storage};

use super::{one_file, refuse_objects};
use crate::args::cache::{SOURCE_CACHE_WORDS, cache_flag};
use crate::args::image::ImageArg;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open;
use crate::report::json::pretty;

/// The command line of `qimg check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 consistent (or repaired), 1 could not check, 2 corrupt, 3 leaked clusters \
                  only, 63 the format has nothing to check."
)]
pub struct Args {
    /// Say nothing, unless something is wrong
    #[arg(short, long)]
    quiet: bool,
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Repair: leaks, or all
    #[arg(short, long, value_name = "WHAT", allow_hyphen_values = true)]
    repair: Option<String>,
    /// Cache mode of the image
    #[arg(short = 'T', long, value_name = "MODE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Open it although somebody may be writing to it
    #[arg(short = 'U', long)]
    force_share: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// The image cannot be opened, or the check has no answer.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("check", args.output.as_deref())?;
    let repair = repair(args.repair.as_deref())?;
    let file = one_file("check", &args.files)?;
    refuse_objects(&args.object)?;
    cache_flag(args.cache.as_deref(), SOURCE_CACHE_WORDS)?;
    let image = ImageArg::parse(file, args.format.as_deref(), args.image_opts)?;
    let refuse =
        |reason: String| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let (format, _) = open::format_of(&image).map_err(refuse)?;
    let storage = open_storage(args, &image, format, repair).map_err(refuse)?;
    if format == Format::Raw {
        let failure = Failure::new("This image format does not support checks");
        return Err(failure.with_code(exit::CHECK_UNSUPPORTED));
    }
    let found = examine(&storage, repair, &image)?;
    tell_findings(&found.findings, found.findings_omitted)?;
    let mut out = std::io::stdout();
    match output {
        Output::Human if args.quiet => {}
        Output::Human => out.write_all(report::human(&found).as_bytes())?,
        Output::Json => {
            writeln!(out, "{}", pretty(&report::Json::new(&image.name, format, &found))?)?;
        }
    }
    Ok(found.outcome().exit_code())
}

fn repair(what: Option<&str>) -> Result<Repair, Failure> {
    match what {
        None => Ok(Repair::None),
        Some("leaks") => Ok(Repair::Leaks),
        Some("all") => Ok(Repair::All),
        Some(other) => {
            let message = format!("--repair (-r) expects 'leaks' or 'all' not '{other}'");
            Err(Failure::usage("qimg", "check", &message))
        }
    }
}

fn open_storage(
    args: &Args,
    image: &ImageArg,
    format: Format,
    repair: Repair,
) -> Result<FileStorage, String> {
    let writes = repair != Repair::None && format == Format::Qcow2;
    let shared = args.force_share || image.force_share;
    if writes && shared {
        return Err("force-share=on can only be used with read-only images".into());
    }
    if writes && image.read_only {
        return Err("a repair needs to write: leave out read-only=on".into());
    }
    let words = |error| open::storage_words(&image.path, &error);
    let locking = if image.no_locks { Locking::Off } else { Locking::Auto };
    let storage = OpenOptions::new().write(writes).locking(locking).open(&image.path);
    let storage = storage.map_err(words)?;
    let lock = match (format, writes) {
        _ if shared => Lock::shared_reader(),
        (Format::Raw, _) => Lock::raw_reader(),
        (Format::Qcow2, true) => Lock::qcow2_writer(),
        (Format::Qcow2, false) => Lock::qcow2_reader(),
    };
    storage.lock(lock).map_err(words)?;
    Ok(storage)
}

fn examine(
    storage: &FileStorage,
    repair: Repair,
    image: &ImageArg,
) -> Result<CheckReport, Failure> {
    check(storage, CheckOptions { repair, ..CheckOptions::default() }).map_err(|error| {
        match &error {
            CheckError::Format(_) => {
                Failure::new(format!("Could not open '{}': {error}", image.name))
            }
            CheckError::RebuildNeeded { report } => {
                // What was found is worth knowing even though nothing could be done about it.
                let _ = tell_findings(&report.findings, report.findings_omitted);
                Failure::new(format!("Check failed: {error}"))
            }
            _ => Failure::new(format!("Check failed: {error}")),
        }
    })
}

fn tell_findings(findings: &[Finding], omitted: u64) -> std::io::Result<()> {
    let mut err = std::io::BufWriter::new(std::io::stderr().lock());
    findings.iter().try_for_each(|finding| writeln!(err, "{finding}"))?;
    if omitted > 0 {
        writeln!(err, "... and {omitted} more")?;
    }
    err.flush()
}
