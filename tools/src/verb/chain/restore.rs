//! `qimg chain restore`: a heap of files becomes one image.

use std::io::Write;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::convert::{ConvertOptions, convert};
use qimg::create::{CreateOptions, create};
use qimg::io::{Files, HostFiles};
use qimg::restore::{Bases, RestoreError, open, order};
use serde_json::json;

use super::verify::content_hash;
use crate::args::everywhere;
use crate::args::image::format_named;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::explain;
use crate::report::json::pretty;
use crate::report::progress::{CONVERT_STEP, Progress};
use crate::verb::operation::text;

/// The command line of `qimg chain restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 restored, 1 failed, 12 the files are no complete chain, 13 a \
                        backing file is not the one its overlay was made on."
)]
pub(crate) struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print the progress in percent
    #[arg(short, long)]
    progress: bool,
    /// The new image, which must not exist; without it the order of the files is printed
    #[arg(short = 'o', long = "out", value_name = "OUT")]
    out: Option<PathBuf>,
    /// Format of the new image: qcow2 (default) or raw
    #[arg(short = 'O', long, value_name = "FMT", default_value = "qcow2")]
    out_format: String,
    /// Take backing files that are not those that their overlays were made on
    #[arg(long)]
    any_base: bool,
    /// human or json
    #[arg(long, value_name = "FORM", allow_hyphen_values = true)]
    output: Option<String>,
    /// The files of the chain, in any order, under any names
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let output = Output::parse("chain restore", args.output.as_deref())?;
    let named = format_named(&args.out_format);
    let format =
        named.ok_or_else(|| Failure::new(format!("Invalid format name: '{}'", args.out_format)))?;
    let options = OpenOptions::new().policy(everywhere::policy());
    let content = Some(&content_hash as &qimg::verify::ContentHash<'_>);
    let bases = (!args.any_base).then_some(Bases { content });
    let chain = open(&args.files, &options, bases).map_err(refused)?;
    match &args.out {
        None => print_order(&args.files, output)?,
        Some(out) => flatten(args, chain, out, format)?,
    }
    Ok(exit::SUCCESS)
}

fn refused(error: RestoreError) -> Failure {
    match error {
        RestoreError::Open(error) => Failure::new(explain(&error)),
        RestoreError::Unreadable { .. } => Failure::new(error.to_string()),
        RestoreError::WrongBase { .. } => {
            Failure::new(format!("{error}; --any-base takes it all the same"))
                .with_code(exit::CHAIN_BASE_CHANGED)
        }
        error => Failure::new(error.to_string()).with_code(exit::CHAIN_INCOMPLETE),
    }
}

fn print_order(files: &[PathBuf], output: Output) -> Result<(), Failure> {
    let ordered = order(files).map_err(refused)?;
    let text = match output {
        Output::Human => ordered.iter().map(|path| format!("{}\n", path.display())).collect(),
        Output::Json => {
            let layers: Vec<_> = ordered.iter().map(|path| text(path)).collect();
            format!("{}\n", pretty(&json!({ "layers": layers }))?)
        }
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Copies what the chain shows into a new image, and takes that back if it does not come to an end.
fn flatten(args: &Args, chain: Chain, out: &Path, format: Format) -> Result<(), Failure> {
    let name = out.display();
    if out.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{name}: exists already; name another file")));
    }
    let total = chain.virtual_size();
    let refuse = |error: &dyn std::fmt::Display| Failure::new(format!("{name}: {error}"));
    // Under its name only when it is whole.
    let made = unnamed(out);
    create(&made, &CreateOptions::new(format, total)).map_err(|error| refuse(&error))?;
    let copied = copy(args, chain, &made, format, total).and_then(|()| {
        let named = HostFiles.rename_new(&made, out).and_then(|()| HostFiles.sync_folder(out));
        named.map_err(|error| refuse(&error))
    });
    if copied.is_err() {
        // It was made here, moments ago; if it has its name already, nothing is there.
        let _ = std::fs::remove_file(&made);
    }
    copied
}

/// A name in the same folder that nobody else uses.
fn unnamed(out: &Path) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(40).collect();
    out.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn copy(args: &Args, chain: Chain, out: &Path, format: Format, total: u64) -> Result<(), Failure> {
    let target = Chain::open(out, &OpenOptions::new().format(format))
        .map_err(|error| Failure::new(explain(&error)))?;
    let lines = args.progress && !args.quiet;
    let progress = std::sync::Mutex::new(Progress::start(args.quiet, lines, CONVERT_STEP, total));
    let report = |behind: u64| {
        if let Ok(mut progress) = progress.lock() {
            progress.set(behind);
        }
    };
    let raw = format == Format::Raw;
    let how = ConvertOptions { target_is_zero: true, out_of_order: raw, ..Default::default() };
    let copied = convert(&[chain], &target, &how, &report);
    if let Ok(mut progress) = progress.into_inner() {
        if copied.is_ok() {
            progress.complete();
        }
        progress.end();
    }
    copied.map_err(|error| Failure::new(error.to_string()))?;
    target.close().map_err(|error| Failure::new(explain(&error)))
}
