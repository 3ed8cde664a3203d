//! `qimg map`: what is allocated where, through the whole chain.

use std::ffi::OsString;
use std::io::{BufWriter, Write};

use qimg::chain::Chain;
use qimg::map::{Extent, map};

use super::{one_file, refuse_objects};
use crate::args::output::Output;
use crate::args::size::{self, SizeError};
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};

/// The command line of `qimg map`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// First guest byte
    #[arg(short, long, value_name = "OFFSET", allow_hyphen_values = true)]
    start_offset: Option<String>,
    /// Guest bytes at most
    #[arg(short = 'l', long, value_name = "LENGTH", allow_hyphen_values = true)]
    max_length: Option<String>,
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
/// The image cannot be opened or read, or has data without a place for the human form.
pub fn run(args: &Args) -> Outcome {
    let output = Output::parse("map", args.output.as_deref())?;
    let start = number(args.start_offset.as_deref(), "start offset")?.unwrap_or(0);
    let length = number(args.max_length.as_deref(), "max length")?.unwrap_or(size::MAX);
    let file = one_file("map", &args.files)?;
    refuse_objects(&args.object)?;
    let (_, opened) = args.source.open(file)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let printed = match output {
        Output::Human => human(&mut out, opened.chain(), start, length),
        Output::Json => json(&mut out, opened.chain(), start, length),
    };
    let flushed = out.flush();
    printed?;
    flushed?;
    Ok(exit::SUCCESS)
}

fn number(text: Option<&str>, what: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    size::parse(text).map(Some).map_err(|error| {
        Failure::new(match error {
            SizeError::Syntax => format!("Invalid {what} specified: '{text}'."),
            SizeError::Range => {
                format!("Invalid {what} specified. Must be between 0 and {}.", size::MAX)
            }
        })
    })
}

fn extents(
    chain: &Chain,
    start: u64,
    length: u64,
) -> impl Iterator<Item = Result<Extent, Failure>> + '_ {
    map(chain, start..start.saturating_add(length)).map(|extent| {
        extent.map_err(|error| Failure::new(format!("Failed to read image metadata: {error}")))
    })
}

fn human(out: &mut impl Write, chain: &Chain, start: u64, length: u64) -> Result<(), Failure> {
    writeln!(out, "{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to")?;
    for extent in extents(chain, start, length) {
        let Extent { start, status } = extent?;
        if !status.data || status.zero {
            continue;
        }
        let layer = chain.layer(status.depth);
        let (Some(host), Some(layer)) = (status.host_offset, layer) else {
            out.flush()?;
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        };
        let columns = [start, status.len, host].map(hexadecimal);
        let [start, len, host] = columns;
        writeln!(out, "{start:<16}{len:<16}{host:<16}{}", layer.path().display())?;
    }
    Ok(())
}

/// As C prints `%#x`: zero has no prefix.
fn hexadecimal(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("{number:#x}") }
}

fn json(out: &mut impl Write, chain: &Chain, start: u64, length: u64) -> Result<(), Failure> {
    let mut separator = "[";
    let mut first = true;
    for extent in extents(chain, start, length) {
        write!(out, "{separator}{}", json_line(&extent?))?;
        separator = ",\n";
        first = false;
    }
    if first {
        write!(out, "[{}", empty_line(start))?;
    }
    Ok(writeln!(out, "]")?)
}

fn json_line(extent: &Extent) -> String {
    let Extent { start, status } = extent;
    let offset = status.host_offset.map(|host| format!(", \"offset\": {host}"));
    format!(
        "{{ \"start\": {start}, \"length\": {}, \"depth\": {}, \"present\": {}, \"zero\": {}, \
         \"data\": {}, \"compressed\": {}{}}}",
        status.len,
        status.depth,
        status.present,
        status.zero,
        status.data,
        status.compressed,
        offset.unwrap_or_default()
    )
}

/// What qemu-img prints when there is nothing to tell.
fn empty_line(start: u64) -> String {
    format!(
        "{{ \"start\": {start}, \"length\": 0, \"depth\": 0, \"present\": false, \
         \"zero\": false, \"data\": false, \"compressed\": false}}"
    )
}
