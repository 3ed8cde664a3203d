//! `qimg create`: a new image, with or without a backing file.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::path::Path;

use qimg::chain::Format;
use qimg::create::{CreateError, CreateOptions, backing_size, create};

use super::refuse_objects;
use crate::args::everywhere;
use crate::args::image::{ImageArg, format_known, format_named};
use crate::args::size::{self, SizeError};
use crate::creation::options::{Options, wants_help};
use crate::creation::{help, settings};
use crate::exit;
use crate::failure::{Failure, Outcome};

/// The command line of `qimg create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Format of the new image: raw (default) or qcow2
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Options of the format; '-o help' lists them
    #[arg(short, long, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<String>,
    /// Put the new image on top of this one
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true)]
    backing: Option<String>,
    /// Format of the backing file; mandatory with -b
    #[arg(short = 'F', long, value_name = "FMT", allow_hyphen_values = true)]
    backing_format: Option<String>,
    /// Do not open the backing file; the size must then be given
    #[arg(short = 'u', long)]
    backing_unsafe: bool,
    /// Guess the format of files below the backing file where it is not recorded (unsafe)
    #[arg(long)]
    probe_backing: bool,
    /// Do not record in the new image which file its backing file is
    #[arg(long)]
    no_pin: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// New image file, then its size: bytes, or with a suffix k, M, G, T, P, E
    #[arg(value_name = "FILE [SIZE]")]
    words: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// Options that are not possible, a backing file that cannot be opened, or a host failure.
pub fn run(args: &Args) -> Outcome {
    let format = args.format.as_deref().unwrap_or("raw");
    if wants_help(&args.options)? {
        let format = known(format, "")?;
        let text = help::render(format, !args.words.is_empty());
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(exit::SUCCESS);
    }
    let (file, size) = match args.words.as_slice() {
        [file] => (file, None),
        [file, size] => (file, Some(parse_size(size)?)),
        [] => return Err(Failure::usage("qimg", "create", "Expecting image file name")),
        [_, _, more, ..] => {
            let message = format!("Unexpected argument: {}", more.to_string_lossy());
            return Err(Failure::usage("qimg", "create", &message));
        }
    };
    refuse_objects(&args.object)?;
    make(args, known(format, &prefix(file))?, file, size)
}

/// What stands before every message about the new file.
fn prefix(file: &OsStr) -> String {
    format!("{}: ", file.to_string_lossy())
}

fn known(format: &str, prefix: &str) -> Result<Format, Failure> {
    format_known(format, |name| format!("Format driver '{name}' does not support image creation"))
        .map_err(|failure| Failure::new(format!("{prefix}{failure}")))
}

fn parse_size(text: &OsStr) -> Result<u64, Failure> {
    let text = text.to_string_lossy();
    size::parse(&text).map_err(|error| {
        Failure::new(match error {
            SizeError::Range => {
                format!("Invalid image size specified. Must be between 0 and {}.", size::MAX)
            }
            SizeError::Syntax => format!(
                "Invalid image size specified: '{text}' (bytes, or a number with a suffix k, M, \
                 G, T, P or E)."
            ),
        })
    })
}

fn make(args: &Args, format: Format, file: &OsStr, size: Option<u64>) -> Outcome {
    let refuse = |message: String| Failure::new(format!("{}{message}", prefix(file)));
    let path = target_path(file, format)?;
    let mut options = choose(args, format, size).map_err(refuse)?;
    settings::refuse_unknown(&options).map_err(refuse)?;
    complete_size(args, &path, &mut options).map_err(refuse)?;
    let announced = announce(args, &options, file);
    let mut new = settings::create_options(format, &options).map_err(refuse)?;
    new.qcow2.record_base &= !(args.no_pin || args.backing_unsafe);
    write_image(&path, &new).map_err(refuse)?;
    match announced {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(exit::SUCCESS), // the image is what was asked for, read or not
    }
}

fn announce(args: &Args, options: &Options, file: &OsStr) -> std::io::Result<()> {
    if args.quiet {
        return Ok(());
    }
    writeln!(std::io::stdout(), "{}", options.formatting(&file.to_string_lossy()))
}

/// New images are local files; `file:` may be said.
fn target_path(file: &OsStr, format: Format) -> Result<std::path::PathBuf, Failure> {
    if file.to_str().is_some_and(|name| name.starts_with("json:")) {
        return Err(Failure::new(format!(
            "{}Unknown protocol 'json' (a new image needs a file name)",
            prefix(file)
        )));
    }
    let image = ImageArg::parse(file, Some(format.name()), false).map_err(|failure| {
        let text = failure.to_string();
        let reason = text.split_once("': ").map_or(text.as_str(), |(_, reason)| reason);
        Failure::new(format!("{}{reason}", prefix(file)))
    })?;
    Ok(image.path)
}

/// The options with what the flags of their own say.
fn choose(args: &Args, format: Format, size: Option<u64>) -> Result<Options, String> {
    let mut options = Options::new(format);
    args.options.iter().try_for_each(|list| options.apply(list))?;
    if let Some(size) = size {
        if options.get("size").is_some() {
            return Err("The image size must be specified only once".into());
        }
        options.set("size", size.to_string());
    }
    let flags = [("backing_file", &args.backing), ("backing_fmt", &args.backing_format)];
    for (name, value) in flags {
        let Some(value) = value else { continue };
        if !options.knows(name) {
            let what = if name == "backing_file" { "Backing file" } else { "Backing format" };
            return Err(format!("{what} not supported for file format '{format}'"));
        }
        options.set(name, value.clone());
    }
    Ok(options)
}

/// Checks the backing file and takes the size from it where none was given.
fn complete_size(args: &Args, path: &Path, options: &mut Options) -> Result<(), String> {
    let backing = options.get("backing_file").map(str::to_owned);
    let size = match &backing {
        Some(name) if name.is_empty() => {
            return Err("Expected backing file name, got empty string".into());
        }
        Some(name) => backing_file(args, path, name, options)?,
        None => None,
    };
    match (options.get("size"), size) {
        (None, Some(size)) => options.set("size", size.to_string()),
        (None, None) => return Err("Image creation needs a size parameter".into()),
        (Some(_), _) => {}
    }
    Ok(())
}

/// Opens the backing file, unless told not to, and returns its size.
fn backing_file(
    args: &Args,
    path: &Path,
    name: &str,
    options: &Options,
) -> Result<Option<u64>, String> {
    let Some(format) = options.get("backing_fmt") else {
        return Err(format!("Backing file specified without backing format{}", guess(path, name)));
    };
    let parsed = format_named(format);
    let parsed = parsed
        .ok_or_else(|| format!("Unknown driver '{format}' (Could not open backing image.)"))?;
    if args.backing_unsafe {
        return Ok(None);
    }
    if qimg::chain::resolve_name(path, name).is_ok_and(|backing| backing == path) {
        return Err(CreateError::OwnBacking.to_string());
    }
    // Only its size is wanted; a running machine may use it.
    let policy = everywhere::policy().probe(args.probe_backing).force_share(true);
    let size = backing_size(path, name, parsed, policy);
    size.map(Some).map_err(|error| {
        format!("{} (Could not open backing image.)", crate::open::explain(&error))
    })
}

/// What the missing format probably is, for the message; nothing is done with it.
fn guess(path: &Path, name: &str) -> String {
    let probed = qimg::chain::resolve_name(path, name)
        .ok()
        .and_then(|backing| qimg::probe::probe(&backing).ok());
    match probed {
        Some(format) => format!(" (-F FMT; looks like {format})"),
        None => " (-F FMT)".into(),
    }
}

fn write_image(path: &Path, new: &CreateOptions) -> Result<(), String> {
    create(path, new).map_err(|error| settings::words(path, new.format, &error))
}
