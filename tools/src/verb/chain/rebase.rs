//! `qimg chain rebase`: the top is put on another backing file, or on none.

use std::ffi::OsString;

use qimg::chain::Rebase;

use super::flags::OperationFlags;
use crate::args::image::format_named;
use crate::failure::{Failure, Outcome};
use crate::verb::one_file;

/// The command line of `qimg chain rebase`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                  qimg chain rebase --dry-run --onto new.qcow2 -F qcow2 top.qcow2\n  \
                  qimg chain rebase --header-only --onto moved/base.raw -F raw top.qcow2")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: OperationFlags,
    /// New backing file, relative to the folder of the image (default, and "": none)
    #[arg(long, value_name = "BACKING")]
    onto: Option<String>,
    /// Format of the new backing file
    #[arg(short = 'F', long, value_name = "FMT")]
    onto_format: Option<String>,
    /// Change the header alone: the image shows other bytes unless both backing files show the same
    #[arg(long)]
    header_only: bool,
    /// Compress what is taken over
    #[arg(short, long)]
    compress: bool,
    /// Rebase although other overlays rest on the image, or internal snapshots will show other bytes
    #[arg(long)]
    force: bool,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let file = one_file("chain rebase", &args.files)?;
    let (image, options) = args.flags.image(file)?;
    let rebase = Rebase::new(&image.path, options)
        .header_only(args.header_only)
        .compress(args.compress)
        .force(args.force);
    let usage = |message| Err(Failure::usage("qimg", "chain rebase", message));
    let rebase = match (args.onto.as_deref(), &args.onto_format) {
        (None, _) if args.header_only => {
            return usage("--header-only expects --onto, with \"\" for no backing file");
        }
        (None | Some(""), _) => rebase,
        (Some(onto), Some(name)) => match format_named(name) {
            Some(format) => rebase.onto(onto, format),
            None => return Err(Failure::new(format!("Invalid format name: '{name}'"))),
        },
        (Some(_), None) => return usage("--onto expects the format of the new backing file (-F)"),
    };
    args.flags.carry_out("chain rebase", || rebase.plan(), |watch| rebase.run(watch))
}
