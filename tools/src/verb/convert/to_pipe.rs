//! A copy to standard output: one pass from front to back, nothing in between.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

use qimg::chain::{Chain, Format};
use qimg::convert::{StreamError, StreamOptions, stream_out};
use qimg::create::Qcow2Options;

use super::Args;
use super::checks::Plan;
use super::{open_sources, pipe, target, warn_unreadable};
use crate::creation::settings;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::os_text;
use crate::report::progress::{CONVERT_STEP, Progress};

/// Copies the sources to standard output.
pub(super) fn run(args: &Args, plan: &Plan) -> Outcome {
    pipe::check_output(args, plan)?;
    refuse_terminal()?;
    let sources = open_sources(args, plan)?;
    let size = sources.iter().map(Chain::virtual_size).fold(0, u64::saturating_add);
    let options = options(args, plan, size)?;
    // The library's own standard output looks for ends of lines.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    for layer in sources.iter().flat_map(Chain::layers) {
        pipe::refuse_same(&out, layer.path(), "standard output")?;
    }
    let progress = Progress::start_beside_data(args.quiet, args.progress, CONVERT_STEP, size);
    let progress = RefCell::new(progress);
    let report = |behind| progress.borrow_mut().set(behind);
    let copied = stream_out(&sources, &options, &mut out, &report);
    let mut progress = progress.into_inner();
    if copied.is_ok() {
        progress.complete();
    }
    progress.end();
    warn_unreadable(copied.map_err(|error| explain(&error))?);
    Ok(exit::SUCCESS)
}

pub(super) fn refuse_terminal() -> Result<(), Failure> {
    match io::stdout().is_terminal() {
        false => Ok(()),
        true => Err(Failure::new(
            "standard output is a terminal, which cannot use an image; redirect it to a file or pipe",
        )),
    }
}

fn options(args: &Args, plan: &Plan, size: u64) -> Result<StreamOptions, Failure> {
    let mut options = plan.options.clone();
    options.set("size", size.to_string());
    let format = plan.target_format;
    let new = settings::create_options(format, &options)
        .map_err(|reason| Failure::new(format!("-: error while converting {format}: {reason}")))?;
    let qcow2 = match format {
        Format::Raw => Qcow2Options::default(),
        Format::Qcow2 => new.qcow2,
    };
    Ok(StreamOptions {
        qcow2,
        // A name in the image is relative to where it will lie, which nobody knows: here.
        target_backing: target::backing(args, plan, Path::new("-"))?,
        everything: plan.sparse == 0,
        readers: plan.parallel,
        salvage: args.salvage,
        ..StreamOptions::new(format)
    })
}

pub(super) fn explain(error: &StreamError) -> Failure {
    Failure::new(match error {
        StreamError::Output { offset, source } if source.kind() == ErrorKind::BrokenPipe => {
            format!(
                "standard output was closed after {offset} bytes: whoever reads it has only part of \
             the copy"
            )
        }
        StreamError::Output { offset, source } => {
            format!("error while writing at byte {offset} of standard output: {}", os_text(source))
        }
        other => other.to_string(),
    })
}
