//! `qimg amend`: other options for an existing image, as far as they can change.

use std::ffi::OsString;
use std::io::Write;

use qimg::amend::{AmendError, AmendOptions, amend};
use qimg::chain::Format;
use qimg::engine::ResizeOptions;
use qimg::format::Version;

use super::{one_file, refuse_objects, resize};
use crate::args::cache::{CACHE_WORDS, cache_flag};
use crate::args::image::{ImageArg, format_known};
use crate::called::called_as;
use crate::creation::amendable::{self, Amendments};
use crate::creation::options::wants_help;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, open_for_verb};
use crate::report::progress::{AMEND_STEP, Progress};

/// The command line of `qimg amend`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Print percentages
    #[arg(short, long)]
    progress: bool,
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// What is to change; '-o help' lists what can
    #[arg(short, long, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<String>,
    /// Cache mode of the image
    #[arg(short = 't', long, value_name = "MODE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Accepted for compatibility, without effect: it is about keys of encrypted images
    #[arg(long)]
    force: bool,
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
/// Options that cannot change, or not to these values; an image that cannot be opened; a host
/// failure.
pub fn run(args: &Args) -> Outcome {
    let help = wants_help(&args.options)?;
    if args.options.is_empty() {
        return Err(Failure::usage("qimg", "amend", "Must specify options (-o)"));
    }
    refuse_objects(&args.object)?;
    if help && let Some(name) = &args.format {
        return print_help(known(name)?);
    }
    let file = match args.files.as_slice() {
        [file] => file.as_os_str(),
        _ if help => return Err(Failure::new("Expecting one image file name")),
        _ => one_file("amend", &args.files)
            .map_err(|_| Failure::new("Expecting one image file name"))?,
    };
    let cache = cache_flag(args.cache.as_deref(), CACHE_WORDS)?.unwrap_or_default();
    let image = ImageArg::parse(file, args.format.as_deref(), args.image_opts)?;
    let how = How { probe_backing: args.probe_backing, cache, ..How::default() };
    let opened = open_for_verb(&image, &how)?;
    if help {
        return print_help(opened.format());
    }
    if opened.format() == Format::Raw {
        return Err(Failure::new(AmendError::NotQcow2.to_string()));
    }
    let wanted = Amendments::parse(&args.options).map_err(wrong)?;
    let mut progress = Progress::start(args.quiet, args.progress, AMEND_STEP, 100);
    let done = carry_out(&image, &how, opened.into_chain(), &wanted, &mut progress);
    if done.is_ok() {
        progress.complete();
    }
    progress.end();
    done.map(|()| exit::SUCCESS)
}

fn known(name: &str) -> Result<Format, Failure> {
    format_known(name, |name| format!("Format driver '{name}' does not support option amendment"))
}

fn print_help(format: Format) -> Outcome {
    if format == Format::Raw {
        return Err(Failure::new(AmendError::NotQcow2.to_string()));
    }
    std::io::stdout().write_all(amendable::help().as_bytes())?;
    Ok(exit::SUCCESS)
}

/// The first line of a text is the message, the second what helps.
fn wrong(text: String) -> Failure {
    match text.split_once('\n') {
        Some((message, help)) => Failure::new(message).with_second(help),
        None => Failure::new(text),
    }
}

/// A size is given where the image can have it: after an upgrade, before a downgrade.
fn carry_out(
    image: &ImageArg,
    how: &How,
    mut chain: qimg::chain::Chain,
    wanted: &Amendments,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let upgrades = wanted.options.version == Some(Version::V3);
    if let Some(size) = wanted.size.filter(|_| !upgrades) {
        resize_chain(&mut chain, size)?;
    }
    run_amend(chain, &wanted.options, progress)?;
    if let Some(size) = wanted.size.filter(|_| upgrades) {
        let mut chain = open_for_verb(image, how)?.into_chain();
        resize_chain(&mut chain, size)?;
        chain.close().map_err(|error| Failure::new(crate::open::explain(&error)))?;
    }
    Ok(())
}

fn run_amend(
    chain: qimg::chain::Chain,
    options: &AmendOptions,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let report = &mut |done: u64, total: u64| {
        progress.set((u128::from(done) * 100 / u128::from(total.max(1))) as u64);
    };
    amend(chain, options, report).map_err(|error| {
        let failure = Failure::new(match &error {
            AmendError::Chain(error) => crate::open::explain(error),
            other => other.to_string(),
        });
        match error {
            AmendError::Backing => {
                failure.with_second(format!("You can use '{} rebase' instead.", called_as("qimg")))
            }
            _ => failure,
        }
    })
}

fn resize_chain(chain: &mut qimg::chain::Chain, size: u64) -> Result<(), Failure> {
    chain
        .resize(size, ResizeOptions::new().shrink(true))
        .map_err(|error| Failure::new(resize::words(&error)))
}
