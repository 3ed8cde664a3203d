//! `qimg info`: what an image is.

mod human;
mod json;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use qimg::chain::resolve_name;
use qimg::info::{Info, InfoError, InfoOptions, info};

pub use human::format_specific;

use super::{one_file, refuse_objects};
use crate::args::image::{ImageArg, format_named};
use crate::args::output::Output;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open;
use crate::report::json::pretty;

/// Longest chain that is followed; far beyond any in use, and a limit for loops that no name
/// gives away.
const CHAIN_MAX: usize = 1000;

/// The command line of `qimg info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Follow the backing files too
    #[arg(short, long)]
    backing_chain: bool,
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

/// One image and the names it refers to.
#[derive(Debug)]
pub(super) struct Described {
    /// What it is.
    pub(super) info: Info,
    /// Where its backing file lies.
    pub(super) backing_path: Option<PathBuf>,
}

impl Described {
    /// The name of the image, as it was given or found.
    pub(super) fn name(&self) -> String {
        self.info.path.to_string_lossy().into_owned()
    }
}

/// Runs the verb.
///
/// # Errors
/// The image cannot be opened or is damaged.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("info", args.output.as_deref())?;
    let file = one_file("info", &args.files)?;
    refuse_objects(&args.object)?;
    let image = args.source.image(file)?;
    let images = describe(args, image)?;
    let text = match output {
        Output::Human => images.iter().map(human::render).collect::<Vec<_>>().join("\n"),
        Output::Json if args.backing_chain => {
            format!("{}\n", pretty(&images.iter().map(json::Image::from).collect::<Vec<_>>())?)
        }
        Output::Json => images
            .iter()
            .map(|image| Ok(format!("{}\n", pretty(&json::Image::from(image))?)))
            .collect::<std::io::Result<String>>()?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit::SUCCESS)
}

fn describe(args: &Args, mut image: ImageArg) -> Result<Vec<Described>, Failure> {
    let mut images: Vec<Described> = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let described = describe_one(args, &image)?;
        seen.insert(described.info.path.clone());
        let next = next_image(args, &described)?.filter(|_| args.backing_chain);
        images.push(described);
        let Some(next) = next else { return Ok(images) };
        if seen.contains(&next.path) || images.len() == CHAIN_MAX {
            let name = next.name;
            return Err(Failure::new(format!("Backing file '{name}' creates an infinite loop.")));
        }
        image = next;
    }
}

fn describe_one(args: &Args, image: &ImageArg) -> Result<Described, Failure> {
    let refuse =
        |reason: String| Failure::new(format!("Could not open '{}': {reason}", image.name));
    let (format, _) = open::format_of(image).map_err(refuse)?;
    let force_share = args.source.force_share || image.force_share || image.no_locks;
    let info = info(&image.path, format, InfoOptions { force_share })
        .map_err(|error| refuse(words(image, &error)))?;
    let name = info.qcow2.as_ref().and_then(|qcow2| qcow2.backing_name.as_deref());
    // A name that cannot be followed is shown as it is.
    let backing_path =
        name.map(|name| resolve_name(&image.path, name).unwrap_or_else(|_| name.into()));
    Ok(Described { info, backing_path })
}

pub(super) fn words(image: &ImageArg, error: &InfoError) -> String {
    match error {
        InfoError::Storage(error) => open::storage_words(&image.path, error),
        other => other.to_string(),
    }
}

fn next_image(args: &Args, image: &Described) -> Result<Option<ImageArg>, Failure> {
    let Some(qcow2) = &image.info.qcow2 else { return Ok(None) };
    let (Some(path), Some(name)) = (&image.backing_path, &qcow2.backing_name) else {
        return Ok(None);
    };
    if !args.backing_chain {
        return Ok(None);
    }
    let refuse = |reason: &str| {
        Failure::new(format!(
            "Could not open '{name}', backing file of '{}': {reason}",
            image.name()
        ))
    };
    let format = match qcow2.backing_format.as_deref() {
        Some(format) => Some(
            format_named(format).ok_or_else(|| refuse(&format!("Unknown driver '{format}'")))?,
        ),
        None if args.source.probe_backing => None,
        None => {
            return Err(refuse("its format is not recorded; --probe-backing lets it be guessed"));
        }
    };
    resolve_name(&image.info.path, name).map_err(|error| refuse(&error.to_string()))?;
    Ok(Some(ImageArg::local(path.clone(), format)))
}
