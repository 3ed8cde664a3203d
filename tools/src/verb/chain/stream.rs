//! `qimg chain stream` and `flatten`: what lower layers hold is pulled up.

use std::ffi::OsString;

use qimg::chain::Stream;

use super::flags::{OperationFlags, layer_named};
use crate::failure::Outcome;
use crate::verb::one_file;

/// The command line of `qimg chain stream`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
                  qimg chain stream --dry-run --base base.qcow2 top.qcow2")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: OperationFlags,
    /// Layer that takes the data: a file of the chain, or its depth (default: 0, the top)
    #[arg(long, value_name = "LAYER")]
    into: Option<OsString>,
    /// Layer that stays below (default: none, everything is pulled up)
    #[arg(long, value_name = "LAYER")]
    base: Option<OsString>,
    /// Stream although other overlays rest on the layer, or internal snapshots will show other bytes
    #[arg(long)]
    force: bool,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// The command line of `qimg chain flatten`.
#[derive(Debug, clap::Args)]
pub(crate) struct FlattenArgs {
    #[command(flatten)]
    flags: OperationFlags,
    /// Flatten although other overlays rest on the image, or internal snapshots will show other bytes
    #[arg(long)]
    force: bool,
    /// Top image of the chain
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let file = one_file("chain stream", &args.files)?;
    let (image, options) = args.flags.image(file)?;
    let mut stream = Stream::new(&image.path, options).force(args.force);
    if let Some(into) = &args.into {
        stream = stream.into_layer(layer_named(into));
    }
    if let Some(base) = &args.base {
        stream = stream.base(layer_named(base));
    }
    args.flags.carry_out("chain stream", || stream.plan(), |watch| stream.run(watch))
}

pub(crate) fn flatten(args: &FlattenArgs) -> Outcome {
    let file = one_file("chain flatten", &args.files)?;
    let (image, options) = args.flags.image(file)?;
    let stream = Stream::new(&image.path, options).force(args.force);
    args.flags.carry_out("chain flatten", || stream.plan(), |watch| stream.run(watch))
}
