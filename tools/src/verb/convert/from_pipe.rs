//! A copy from standard input, which comes once and only forwards.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use qimg::chain::Format;
use qimg::convert::{ConvertError, StreamError, StreamInOptions, stream_in_raw};

use super::Args;
use super::checks::Plan;
use super::pipe;
use super::target::Target;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::os_text;
use crate::report::progress::Progress;

/// Copies standard input to the target.
pub(super) fn run(args: &Args, plan: &Plan) -> Outcome {
    let format = pipe::check_input(args, plan)?;
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal; give it a file or a pipe"));
    }
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    match format {
        Format::Raw if pipe::is_output(args, plan) => Err(Failure::new(
            "raw bytes go from standard input to standard output without help; name a file",
        )),
        Format::Raw => raw(args, plan, input),
        Format::Qcow2 => Err(Failure::new("qcow2 images are not taken from standard input yet")),
    }
}

fn raw(args: &Args, plan: &Plan, mut input: File) -> Outcome {
    let mut target = Target::prepare(args, plan, &[], 0)?;
    let options = StreamInOptions {
        sparse: plan.sparse,
        target_is_zero: target.is_fresh() || args.target_is_zero,
        grow: target.is_fresh(),
        compress: args.compress,
        compression_level: args.compression_level,
    };
    let mut progress = Progress::start_counting(args.quiet, args.progress, false);
    let copied =
        stream_in_raw(&mut input, target.chain_mut(), &options, &mut |done| progress.set(done));
    if copied.is_ok() {
        progress.complete();
    }
    progress.end();
    copied.map_err(|error| explain(&error))?;
    target.finish()?;
    Ok(exit::SUCCESS)
}

fn explain(error: &StreamError) -> Failure {
    Failure::new(match error {
        StreamError::Copy(ConvertError::TargetTooSmall { .. }) => {
            "output file is smaller than input file".to_owned()
        }
        StreamError::Input { offset, source } => {
            format!("error while reading at byte {offset} of standard input: {}", os_text(source))
        }
        other => other.to_string(),
    })
}
