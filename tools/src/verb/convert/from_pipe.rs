//! A copy from standard input, which comes once and only forwards.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;

use qimg::chain::Format;
use qimg::convert::{
    ConvertError, IncomingImage, Spill, StreamError, StreamInOptions, stream_in_raw,
};

use super::Args;
use super::checks::Plan;
use super::target::{self, Target};
use super::{pipe, to_pipe};
use crate::args::size;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::os_text;
use crate::report::progress::Progress;

/// `--spill-limit` when nobody says.
const SPILL_BYTES_DEFAULT: u64 = 1 << 30;

/// Copies standard input to the target.
pub(super) fn run(args: &Args, plan: &Plan) -> Outcome {
    let format = pipe::check_input(args, plan)?;
    if pipe::is_output(args, plan) {
        pipe::check_output(args, plan)?;
        to_pipe::refuse_terminal()?;
    }
    if io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal; give it a file or a pipe"));
    }
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let path = match pipe::is_output(args, plan) {
        true => PathBuf::from("/dev/stdout"),
        false => target::argument(args, plan)?.path,
    };
    pipe::refuse_same(&input, &path, "standard input")?;
    match format {
        Format::Raw => raw(args, plan, input),
        Format::Qcow2 => {
            let incoming = IncomingImage::open(input, spill(args)?);
            let incoming = incoming.map_err(|error| explain(&error))?;
            match pipe::is_output(args, plan) {
                true => through(args, &incoming),
                false => image(args, plan, &incoming),
            }
        }
    }
}

fn raw(args: &Args, plan: &Plan, mut input: File) -> Outcome {
    let mut target = Target::prepare(args, plan, &[], 0)?;
    let options = options(args, plan, &target);
    let mut progress = Progress::start_counting(args.quiet, args.progress, false);
    let copied =
        stream_in_raw(&mut input, target.chain_mut(), &options, &mut |done| progress.set(done));
    end(progress, copied)?;
    target.finish()?;
    Ok(exit::SUCCESS)
}

/// An image into a file.
fn image(args: &Args, plan: &Plan, incoming: &IncomingImage) -> Outcome {
    if plan.options.get("backing_file").is_none()
        && let Some(name) = incoming.backing_name()
    {
        // Before the target is made: it would be one without half of its content.
        return Err(explain(&StreamError::Backing { name }));
    }
    let target = Target::prepare(args, plan, &[], incoming.virtual_size())?;
    let options = options(args, plan, &target);
    let mut progress = Progress::start_counting(args.quiet, args.progress, false);
    let copied = incoming.copy_to(target.chain(), &options, target.backing(), &mut |done| {
        progress.set(done);
    });
    end(progress, copied)?;
    target.finish()?;
    Ok(exit::SUCCESS)
}

/// An image to raw bytes on standard output.
fn through(args: &Args, incoming: &IncomingImage) -> Outcome {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut progress = Progress::start_counting(args.quiet, args.progress, true);
    let copied = incoming.write_raw(&mut out, &mut |done| progress.set(done));
    end(progress, copied)?;
    Ok(exit::SUCCESS)
}

fn options(args: &Args, plan: &Plan, target: &Target) -> StreamInOptions {
    StreamInOptions {
        sparse: plan.sparse,
        target_is_zero: target.is_fresh() || args.target_is_zero,
        grow: target.is_fresh(),
        compress: args.compress,
        compression_level: args.compression_level,
    }
}

/// Where what comes too early waits: a file without a name.
fn spill(args: &Args) -> Result<Spill, Failure> {
    let limit = match &args.spill_limit {
        None => SPILL_BYTES_DEFAULT,
        Some(text) => size::parse(text).map_err(|_| {
            Failure::new(format!("--spill-limit expects a size, such as 4G: '{text}'"))
        })?,
    };
    let folder = args.spill_dir.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
    Ok(Spill::new(limit, move || tempfile::tempfile_in(&folder)))
}

fn end<T>(mut progress: Progress, copied: Result<T, StreamError>) -> Result<T, Failure> {
    if copied.is_ok() {
        progress.complete();
    }
    progress.end();
    copied.map_err(|error| explain(&error))
}

fn explain(error: &StreamError) -> Failure {
    Failure::new(match error {
        StreamError::Copy(ConvertError::TargetTooSmall { .. }) => {
            "output file is smaller than input file".to_owned()
        }
        StreamError::Input { offset, source } => {
            format!("error while reading at byte {offset} of standard input: {}", os_text(source))
        }
        StreamError::Image(source) => format!("standard input: {source}"),
        StreamError::Backing { name } => format!(
            "the image on standard input has the backing file '{name}', which does not come with \
             it; put the copy on top of it with -O qcow2 -B '{name}' -F FMT"
        ),
        StreamError::SpillFull { .. } => {
            format!("{error}; give more with --spill-limit, or name the image as a file")
        }
        StreamError::Spill { .. } => format!("{error}; name another folder with --spill-dir"),
        StreamError::Again { .. } => format!("{error}; name the image as a file"),
        other => return to_pipe::explain(other),
    })
}
