//! `qimg dd`: copies a part of an image into a new one.

use std::ffi::{OsStr, OsString};

use qimg::chain::{Chain, Format};
use qimg::create::create;

use super::convert::refuse_same_file;
use super::refuse_objects;
use crate::args::image::{ImageArg, format_known};
use crate::args::number::{COUNT_MAX, in_range};
use crate::args::size;
use crate::args::source::SourceFlags;
use crate::called::called_as;
use crate::creation::options::Options;
use crate::creation::settings;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, open_for_verb};

/// The command line of `qimg dd`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Format of the output: raw (default) or qcow2
    #[arg(short = 'O', long, value_name = "FMT", allow_hyphen_values = true)]
    output_format: Option<String>,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// if=INPUT of=OUTPUT, and bs=BYTES (default 512), count=BLOCKS: where in the input the copy ends,
    /// skip=BLOCKS: where it begins
    #[arg(value_name = "OPERAND")]
    operands: Vec<OsString>,
}

/// The operands, understood.
#[derive(Debug)]
struct Operands {
    input: OsString,
    output: OsString,
    block: u64,
    count: Option<u64>,
    skip: u64,
}

/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

/// Runs the verb.
///
/// # Errors
/// Operands nobody knows, an input that cannot be read, an output that cannot be made or written.
pub fn run(args: &Args) -> Outcome {
    refuse_objects(&args.object)?;
    let operands = Operands::parse(&args.operands)?;
    let name = args.output_format.as_deref().unwrap_or("raw");
    let format = format_known(name, |name| {
        format!("Format driver '{name}' does not support image creation")
    })?;
    let (input, opened) = args.source.open(&operands.input)?;
    let source = opened.into_chain();
    let part = operands.part(source.virtual_size());
    if part.is_none() {
        let (program, input) = (called_as("qimg"), &input.name);
        eprintln!("{program}: {input}: cannot skip to specified offset");
    }
    let part = part.unwrap_or(0..0);
    let target = make(&operands.output, format, part.end - part.start, &source)?;
    copy(&source, &target, part)?;
    let flush = |error| Failure::new(format!("error while flushing: {error}"));
    target.close().map_err(flush)?;
    Ok(exit::SUCCESS)
}

impl Operands {
    fn parse(words: &[OsString]) -> Result<Self, Failure> {
        let (mut input, mut output) = (None, None);
        let (mut block, mut count, mut skip) = (512, None, 0);
        for word in words {
            let (name, value) = split(word);
            let text = || value.to_string_lossy();
            match name {
                "if" => input = Some(value.to_owned()),
                "of" => output = Some(value.to_owned()),
                "bs" => block = in_range(&text(), "bs", 1, COUNT_MAX)?,
                "count" => count = Some(in_range(&text(), "count", 0, size::MAX)?),
                "skip" => skip = in_range(&text(), "skip", 0, size::MAX)?,
                _ => return Err(Failure::new(format!("unrecognized operand {name}"))),
            }
        }
        let (Some(input), Some(output)) = (input, output) else {
            return Err(Failure::new("Must specify both input and output files"));
        };
        Ok(Self { input, output, block, count, skip })
    }

    /// The bytes of the input that are copied; `None` when the first one lies behind the last.
    fn part(&self, size: u64) -> Option<std::ops::Range<u64>> {
        let bytes = |blocks: u64| blocks.saturating_mul(self.block);
        let start = bytes(self.skip);
        let end = self.count.map_or(size, |count| bytes(count).min(size));
        (start <= end).then_some(start..end)
    }
}

/// `name=value`, of which only the value may be no text.
fn split(word: &OsStr) -> (&str, &OsStr) {
    use std::os::unix::ffi::OsStrExt;
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    let name = std::str::from_utf8(&bytes[..at]).unwrap_or_default();
    (name, OsStr::from_bytes(bytes.get(at + 1..).unwrap_or_default()))
}

fn make(name: &OsStr, format: Format, size: u64, source: &Chain) -> Result<Chain, Failure> {
    let image = ImageArg::parse(name, Some(format.name()), false)?;
    refuse_same_file(&image, source)?;
    let refuse = |reason: String| {
        Failure::new(format!("{}: error while creating output image: {reason}", image.name))
    };
    let mut options = Options::new(format);
    options.set("size", size.to_string());
    let new = settings::create_options(format, &options).map_err(refuse)?;
    create(&image.path, &new)
        .map_err(|error| refuse(settings::words(&image.path, format, &error)))?;
    Ok(open_for_verb(&image, &How::default())?.into_chain())
}

fn copy(source: &Chain, target: &Chain, part: std::ops::Range<u64>) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE.min(part.end - part.start) as usize];
    let mut at = part.start;
    while at < part.end {
        let piece = &mut buffer[..PIECE.min(part.end - at) as usize];
        let failed = |what: &str, error| {
            Failure::new(format!("error while {what} image: {}", crate::open::cause(&error)))
        };
        source.read_at(at, piece).map_err(|error| failed("reading from input", error))?;
        target
            .write_at(at - part.start, piece)
            .map_err(|error| failed("writing to output", error))?;
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(words: &[&str], size: u64) -> Option<std::ops::Range<u64>> {
        let words = [&["if=a", "of=b"], words].concat();
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        Operands::parse(&words).unwrap().part(size)
    }

    #[test]
    fn count_says_where_in_the_input_the_copy_ends() {
        assert_eq!(part(&[], 5000), Some(0..5000));
        assert_eq!(part(&["bs=1k", "count=3", "skip=2"], 5120), Some(2048..3072));
        assert_eq!(part(&["bs=1k", "count=1", "skip=2"], 5120), None);
        assert_eq!(part(&["bs=1k", "skip=5"], 5120), Some(5120..5120));
        assert_eq!(part(&["bs=1k", "skip=6"], 5120), None);
        assert_eq!(part(&["bs=1k", "count=4611686018427387904"], 5120), Some(0..5120));
    }

    #[test]
    fn values_may_hold_anything() {
        assert_eq!(split(OsStr::new("if=a=b")), ("if", OsStr::new("a=b")));
        assert_eq!(split(OsStr::new("bar")), ("bar", OsStr::new("")));
    }
}
