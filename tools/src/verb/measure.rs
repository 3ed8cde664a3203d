//! `qimg measure`: how large a file a new image needs.

use std::ffi::OsString;
use std::io::Write;

use qimg::chain::Format;
use qimg::create::{CreateOptions, Qcow2Options};
use qimg::engine::BackingReference;
use qimg::format::Version;
use qimg::measure::{Measurement, measure};
use serde::Serialize;

use super::refuse_objects;
use crate::args::image::format_known;
use crate::args::output::Output;
use crate::args::size::{self, SizeError};
use crate::args::source::SourceFlags;
use crate::creation::help;
use crate::creation::options::{Options, wants_help};
use crate::creation::settings;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::json::pretty;

/// The command line of `qimg measure`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Format of the new image: raw (default) or qcow2
    #[arg(short = 'O', long, value_name = "FMT", allow_hyphen_values = true)]
    target_format: Option<String>,
    /// Options of the new image's format; '-o help' lists them
    #[arg(short, long, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<String>,
    /// Measure for an empty disk of so many bytes
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    size: Option<String>,
    /// Not offered: an internal snapshot as the source
    #[arg(short = 'l', long, value_name = "SNAPSHOT", allow_hyphen_values = true)]
    snapshot: Option<String>,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// Image file whose content the new image gets
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// Flags that do not go together, options that are not possible, an image that cannot be read.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("measure", args.output.as_deref())?;
    let size = args.size.as_deref().map(image_size).transpose()?;
    refuse_objects(&args.object)?;
    check(args, size)?;
    let name = args.target_format.as_deref().unwrap_or("raw");
    let format = format_known(name, |name| {
        format!("Block driver '{name}' does not support size measurement")
    })?;
    if wants_help(&args.options)? {
        std::io::stdout().write_all(help::render(format, true).as_bytes())?;
        return Ok(exit::SUCCESS);
    }
    let options = create_options(args, format, size.unwrap_or(0)).map_err(Failure::new)?;
    let source = args.files.first().map(|file| args.source.open(file)).transpose()?;
    let chain = source.as_ref().map(|(_, opened)| opened.chain());
    let measured = measure(&options, chain).map_err(|error| Failure::new(error.to_string()))?;
    std::io::stdout().write_all(render(&measured, output)?.as_bytes())?;
    Ok(exit::SUCCESS)
}

fn image_size(text: &str) -> Result<u64, Failure> {
    size::parse(text).map_err(|error| {
        Failure::new(match error {
            SizeError::Syntax => format!("Invalid image size specified: '{text}'."),
            SizeError::Range => {
                format!("Invalid image size specified. Must be between 0 and {}.", size::MAX)
            }
        })
    })
}

fn check(args: &Args, size: Option<u64>) -> Result<(), Failure> {
    let snapshot = args.snapshot.is_some();
    let about_file = args.source.says_how() || snapshot;
    let rows = [
        (args.files.len() > 1, "At most one filename argument is allowed."),
        (
            args.files.is_empty() && about_file,
            "--image-opts, -f, and -l require a filename argument.",
        ),
        (
            args.files.is_empty() && size.is_none(),
            "Either --size N or one filename must be specified.",
        ),
        (
            !args.files.is_empty() && size.is_some(),
            "--size N cannot be used together with a filename.",
        ),
        (snapshot, "-l is not offered yet: snapshots cannot be read"),
    ];
    match rows.iter().find(|(wrong, _)| *wrong) {
        Some((_, message)) => Err(Failure::new(*message)),
        None => Ok(()),
    }
}

/// What decides about the size. Other options are accepted and change nothing.
fn create_options(args: &Args, format: Format, size: u64) -> Result<CreateOptions, String> {
    let mut options = Options::new(format);
    args.options.iter().try_for_each(|list| options.apply(list))?;
    settings::refuse_unknown(&options)?;
    let new = CreateOptions::new(format, size);
    if format == Format::Raw {
        return Ok(new);
    }
    let mode = options.get("preallocation").unwrap_or("off");
    let preallocation = mode.parse().map_err(|_| format!("invalid parameter value: {mode}"))?;
    let version = match options.get("compat") {
        None | Some("1.1" | "v3") => Version::V3,
        Some("0.10" | "v2") => Version::V2,
        Some(other) => return Err(format!("Invalid compatibility level: '{other}'")),
    };
    let defaults = Qcow2Options::default();
    let refcount_bits = options.number("refcount_bits").unwrap_or(defaults.refcount_bits);
    if version == Version::V2 && refcount_bits != defaults.refcount_bits {
        return Err("Different refcount widths than 16 bits require compatibility level 1.1 or \
                    above (use compat=1.1 or greater)"
            .into());
    }
    let backing = options.get("backing_file");
    let qcow2 = Qcow2Options {
        version,
        cluster_size: options.number("cluster_size").unwrap_or(defaults.cluster_size),
        refcount_bits,
        extended_l2: options.is_on("extended_l2"),
        backing: backing.map(|name| BackingReference { name: name.into(), format: None }),
        ..defaults
    };
    Ok(CreateOptions { preallocation, qcow2, ..new })
}

/// The members of qemu-img, in the order it prints them.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    bitmaps: Option<u64>,
    required: u64,
    fully_allocated: u64,
}

fn render(measured: &Measurement, output: Output) -> std::io::Result<String> {
    let Measurement { required, fully_allocated, bitmaps, .. } = *measured;
    if output == Output::Json {
        return Ok(pretty(&Json { bitmaps, required, fully_allocated })? + "\n");
    }
    let bitmaps = bitmaps.map(|bytes| format!("bitmaps size: {bytes}\n")).unwrap_or_default();
    Ok(format!("required size: {required}\nfully allocated size: {fully_allocated}\n{bitmaps}"))
}
