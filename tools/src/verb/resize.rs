//! `qimg resize`: another size for the disk of an image.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use qimg::chain::Error as ChainError;
use qimg::engine::{Error as EngineError, Preallocation, ResizeOptions, ResizeRefusal};

use super::refuse_objects;
use crate::args::image::ImageArg;
use crate::args::size::{self, SizeError};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, explain, open_for_verb};

/// The command line of `qimg resize`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Format of the image (guessed when absent)
    #[arg(short, long, value_name = "FMT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The image argument is a list of options: driver=qcow2,file.filename=PATH
    #[arg(long)]
    image_opts: bool,
    /// Accept a smaller size, which deletes all data behind it
    #[arg(long)]
    shrink: bool,
    /// What is prepared of the new area: off (default), metadata, falloc or full
    #[arg(long, value_name = "MODE", allow_hyphen_values = true)]
    preallocation: Option<String>,
    /// Guess the format of files below the image where it is not recorded (unsafe)
    #[arg(long)]
    probe_backing: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// Image file, then its new size in bytes, or with a suffix k, M, G, T, P, E; with + or - in
    /// front, by how much it grows or shrinks
    #[arg(value_name = "FILE [+|-]SIZE")]
    words: Vec<OsString>,
}

/// The size as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(u64),
    More(u64),
    Less(u64),
}

/// Runs the verb.
///
/// # Errors
/// The image cannot be opened, or not be given the size.
pub fn run(args: &Args) -> Outcome {
    let usage = |message: &str| Failure::usage("qimg", "resize", message);
    let preallocation = match args.preallocation.as_deref() {
        None => Preallocation::Off,
        Some(name) => name.parse().map_err(|_| {
            Failure::new(format!(
                "Invalid preallocation mode '{name}' (known are off, metadata, falloc and full)"
            ))
        })?,
    };
    let (file, size) = match args.words.as_slice() {
        [] | [_] => return Err(usage("Expecting image file name and size")),
        [file, size] => (file, size),
        _ => return Err(usage("Extra argument(s) in command line")),
    };
    let wanted = Wanted::parse(size)?;
    refuse_objects(&args.object)?;
    let image = ImageArg::parse(file, args.format.as_deref(), args.image_opts)?;
    let options = ResizeOptions::new().shrink(args.shrink).preallocation(preallocation);
    resize(args, &image, wanted, options)
}

/// Stands for the `-` before a size while flags are told apart.
const MINUS: &str = "\u{2212}";

/// The command line with sizes below zero, such as `-512k`, written so that nobody takes them for
/// flags. Other verbs' command lines stay as they are.
#[must_use]
pub fn shield_sizes(arguments: &[OsString]) -> Vec<OsString> {
    let shield = |word: &OsString| {
        let size = word.to_str().and_then(|word| word.strip_prefix('-'));
        match size.filter(|size| size.starts_with(|first: char| "0123456789.".contains(first))) {
            Some(size) => format!("{MINUS}{size}").into(),
            None => word.clone(),
        }
    };
    match arguments.get(1).is_some_and(|verb| verb == "resize") {
        true => arguments.iter().map(shield).collect(),
        false => arguments.to_vec(),
    }
}

impl Wanted {
    fn parse(text: &OsStr) -> Result<Self, Failure> {
        let text = text.to_string_lossy().replace(MINUS, "-");
        let (number, kind): (&str, fn(u64) -> Self) = match text.as_bytes().first() {
            Some(b'+') => (&text[1..], Self::More),
            Some(b'-') => (&text[1..], Self::Less),
            _ => (&text, Self::Exactly),
        };
        // Sizes that are too large are refused where they are used.
        match size::parse_u64(number) {
            Ok(bytes) => Ok(kind(bytes)),
            Err(SizeError::Range) => {
                Err(Failure::new(format!("Value '{number}' is out of range for parameter 'size'")))
            }
            Err(SizeError::Syntax) => Err(Failure::new(format!(
                "Invalid size '{text}' (bytes, or a number with a suffix k, M, G, T, P or E; + or - \
                 in front)"
            ))),
        }
    }

    /// The new size of a disk of `present` bytes, if there can be such a disk.
    fn of(self, present: u64) -> Option<u64> {
        let size = match self {
            Self::Exactly(size) => Some(size),
            Self::More(bytes) => present.checked_add(bytes),
            Self::Less(bytes) => present.checked_sub(bytes),
        };
        size.filter(|size| (1..=size::MAX).contains(size))
    }
}

fn resize(args: &Args, image: &ImageArg, wanted: Wanted, options: ResizeOptions) -> Outcome {
    if image.read_only {
        return Err(Failure::new(format!(
            "Could not open '{}': Block node is read-only",
            image.name
        )));
    }
    let how = How { probe_backing: args.probe_backing, ..How::default() };
    let opened = open_for_verb(image, &how)?;
    if let Some(warning) = opened.warning(&image.name) {
        std::io::stderr().write_all(warning.as_bytes())?;
    }
    let mut chain = opened.into_chain();
    let size = wanted.of(chain.virtual_size());
    let size = size.ok_or_else(|| Failure::new("New image size must be positive"))?;
    chain.resize(size, options).map_err(|error| Failure::new(words(&error)))?;
    chain.close().map_err(|error| Failure::new(explain(&error)))?;
    if !args.quiet {
        writeln!(std::io::stdout(), "Image resized.")?;
    }
    Ok(exit::SUCCESS)
}

/// Why an image does not get a size.
pub(crate) fn words(error: &ChainError) -> String {
    let refusal = match error {
        ChainError::Image { source: EngineError::Resize(refusal), .. } => refusal,
        ChainError::RawPreallocation { found, .. } => {
            return format!(
                "Unsupported preallocation mode: {found} (a raw image has no metadata; falloc and \
                 full reserve space)"
            );
        }
        _ => return explain(error),
    };
    match refusal {
        ResizeRefusal::Unaligned { .. } => "The new size must be a multiple of 512".into(),
        ResizeRefusal::Shrink { .. } => "Use the --shrink option to perform a shrink operation. It \
             deletes all data beyond the shrunken image's end: before performing it, make sure there \
             is no important data there."
            .into(),
        ResizeRefusal::NothingToPreallocate { .. } => {
            "Preallocation can only be used for growing images".into()
        }
        ResizeRefusal::Snapshots { .. } => "Can't resize a v2 image which has snapshots".into(),
        ResizeRefusal::LongerBacking { backing, .. } => format!(
            "Failed to zero out new clusters: a v2 image cannot hide its backing file, which is \
             {backing} bytes long (convert it to v3, or rebase it first)"
        ),
        ResizeRefusal::TooLarge { allowed, .. } => format!(
            "Failed to grow the L1 table: File too large (at most {allowed} bytes with this cluster \
             size)"
        ),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Wanted, String> {
        Wanted::parse(OsStr::new(text)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn sizes_are_absolute_or_relative() {
        assert_eq!(parse("1M"), Ok(Wanted::Exactly(1 << 20)));
        assert_eq!(parse("+1.5k"), Ok(Wanted::More(1536)));
        assert_eq!(parse("-0x200"), Ok(Wanted::Less(512)));
        assert_eq!(parse(" +1M"), Ok(Wanted::Exactly(1 << 20)));
        assert_eq!(parse("+-5"), Err("Value '-5' is out of range for parameter 'size'".into()));
        assert!(parse("foo").unwrap_err().starts_with("Invalid size 'foo'"));
        assert!(parse("").is_err());
    }

    #[test]
    fn sizes_below_zero_are_no_flags() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let shielded = shield_sizes(&words("qimg resize -q x -512k -.5M --shrink"));
        assert_eq!(shielded, words("qimg resize -q x \u{2212}512k \u{2212}.5M --shrink"));
        assert_eq!(parse(shielded[4].to_str().unwrap()), Ok(Wanted::Less(512 << 10)));
        assert_eq!(shield_sizes(&words("qimg map -1")), words("qimg map -1"));
    }

    #[test]
    fn a_disk_has_between_one_byte_and_2_to_the_63() {
        assert_eq!(Wanted::More(512).of(1024), Some(1536));
        assert_eq!(Wanted::Less(512).of(1024), Some(512));
        for (wanted, present) in [
            (Wanted::Exactly(0), 1024),
            (Wanted::Less(1024), 1024),
            (Wanted::Less(2048), 1024),
            (Wanted::Exactly(1 << 63), 1024),
            (Wanted::More(u64::MAX), 1024),
            (Wanted::More(size::MAX), 1),
        ] {
            assert_eq!(wanted.of(present), None, "{wanted:?}");
        }
    }
}
