//! `qimg chain diff`: which guest ranges differ between two points of a chain, or two images.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use qimg::chain::{Chain, Delta, Difference, OpenOptions, Watch};
use serde_json::json;

use super::flags::OperationFlags;
use crate::args::output::Output;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::json::pretty;
use crate::verb::operation::words;

/// The command line of `qimg chain diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                  qimg chain diff monday.qcow2 tuesday.qcow2\n  \
                  qimg chain diff --delta delta.qcow2 base.raw tuesday.qcow2")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: OperationFlags,
    /// Format of the newer image (guessed when absent)
    #[arg(short = 'F', long, value_name = "FMT")]
    newer_format: Option<String>,
    /// Do not read data: ranges that may differ, as far as tables tell
    #[arg(long)]
    allocated: bool,
    /// Write what differs into a new overlay on the older image
    #[arg(short, long, value_name = "FILE", conflicts_with = "allocated")]
    delta: Option<PathBuf>,
    /// The older image
    #[arg(value_name = "OLDER")]
    older: OsString,
    /// The newer image
    #[arg(value_name = "NEWER")]
    newer: OsString,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let output = args.flags.output("chain diff")?;
    let refuse = |error| Failure::new(words(&error));
    let (older, older_options) = args.flags.image(&args.older)?;
    let (newer, newer_options) = args.flags.image_as(&args.newer, args.newer_format.as_deref())?;
    if let Some(path) = &args.delta {
        let delta = Delta::new(&older.path, older_options, &newer.path, newer_options, path);
        let run = |watch: Watch<'_>| delta.run(watch);
        return args.flags.carry_out("chain diff", || delta.plan(), run);
    }
    let open = |path: &Path, options: OpenOptions| Chain::open(path, &options.read_only(true));
    let older = open(&older.path, older_options).map_err(refuse)?;
    let newer = open(&newer.path, newer_options).map_err(refuse)?;
    let difference = Difference::between(&older, &newer);
    let ranges = match args.allocated {
        true => difference.candidates(),
        false => difference.ranges(Watch::none()),
    };
    print(&ranges.map_err(refuse)?, output)
}

fn print(ranges: &[Range<u64>], output: Output) -> Outcome {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match output {
        Output::Human => {
            writeln!(out, "{:<16}Length", "Offset")?;
            for range in ranges {
                let (start, len) = (format!("{:#x}", range.start), range.end - range.start);
                writeln!(out, "{start:<16}{len:#x}")?;
            }
        }
        Output::Json => {
            let item = |range: &Range<u64>| json!({ "start": range.start, "length": range.end - range.start });
            let items: Vec<_> = ranges.iter().map(item).collect();
            writeln!(out, "{}", pretty(&items)?)?;
        }
    }
    out.flush()?;
    Ok(exit::SUCCESS)
}
