//! `qimg chain commit`: what layers hold moves down into the one below them.

use std::ffi::OsString;

use qimg::chain::{Commit, LayerRef};

use super::flags::{OperationFlags, layer_named};
use crate::failure::Outcome;
use crate::verb::one_file;

/// The command line of `qimg chain commit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
                  qimg chain commit --dry-run top.qcow2\n  \
                  qimg chain commit --from tuesday.qcow2 --into monday.qcow2 top.qcow2")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: OperationFlags,
    /// Uppermost layer whose data moves: a file of the chain, or its depth (default: 0, the top)
    #[arg(long, value_name = "LAYER")]
    from: Option<OsString>,
    /// Layer that takes the data (default: the one below the first)
    #[arg(long, value_name = "LAYER")]
    into: Option<OsString>,
    /// Leave in the top what it holds
    #[arg(long)]
    keep: bool,
    /// Commit although other overlays rest on layers that change, or internal snapshots will show other
    /// bytes
    #[arg(long)]
    force: bool,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let file = one_file("chain commit", &args.files)?;
    let (image, options) = args.flags.image(file)?;
    let from = args.from.as_deref().map_or(LayerRef::Depth(0), layer_named);
    let commit = Commit::new(&image.path, options).from(from).keep(args.keep).force(args.force);
    let commit = match &args.into {
        None => commit,
        Some(into) => commit.into_layer(layer_named(into)),
    };
    args.flags.carry_out("chain commit", || commit.plan(), |watch| commit.run(watch))
}
