//! `qimg convert`: copies images into a new one.

mod args;
mod checks;
mod from_pipe;
mod pipe;
mod target;
mod to_pipe;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use qimg::chain::Chain;
use qimg::convert::{ConvertError, ConvertReport, convert};

pub use args::Args;

use crate::args::image::ImageArg;
use crate::called::called_as;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, open_for_verb};
use crate::report::progress::{CONVERT_STEP, Progress};
use checks::Plan;
use target::Target;
pub(super) use target::refuse_same_file;

/// Runs the verb.
///
/// # Errors
/// Flags that do not go together, images that cannot be opened or made, reads or writes that
/// fail. A target that was begun is left behind.
pub fn run(args: &Args) -> Outcome {
    if let Some(text) = checks::help(args)? {
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
        return Ok(exit::SUCCESS);
    }
    let plan = checks::plan(args)?;
    pipe::check_spill(args, &plan)?;
    if pipe::is_input(args, &plan) {
        return from_pipe::run(args, &plan);
    }
    if pipe::is_output(args, &plan) {
        return to_pipe::run(args, &plan);
    }
    let sources = open_sources(args, &plan)?;
    let size = sources.iter().map(Chain::virtual_size).fold(0, u64::saturating_add);
    let target = Target::prepare(args, &plan, &sources, size)?;
    copy(args, &plan, &sources, &target)?;
    target.finish()?;
    Ok(exit::SUCCESS)
}

fn open_sources(args: &Args, plan: &Plan) -> Result<Vec<Chain>, Failure> {
    let cache = plan.source_cache;
    let reading = How::reading(args.force_share, args.probe_backing);
    // Else the copy could be written over a raw layer that it is made from.
    let how = How { cache, refuse_writers: true, ..reading };
    let open = |image: &ImageArg| Ok(open_for_verb(image, &how)?.into_chain());
    plan.sources.iter().map(open).collect()
}

fn copy(args: &Args, plan: &Plan, sources: &[Chain], target: &Target) -> Result<(), Failure> {
    let total = sources.iter().map(Chain::virtual_size).fold(0, u64::saturating_add);
    let progress = Mutex::new(Progress::start(args.quiet, args.progress, CONVERT_STEP, total));
    let started = Instant::now();
    let report = |behind: u64| {
        if let Some(wait) = plan.rate.and_then(|rate| too_early(started, behind, rate)) {
            std::thread::sleep(wait);
        }
        if let Ok(mut progress) = progress.lock() {
            progress.set(behind);
        }
    };
    let copied = convert(sources, target.chain(), &target.options(args, plan), &report);
    if let Ok(mut progress) = progress.into_inner() {
        if copied.is_ok() {
            progress.complete();
        }
        progress.end();
    }
    let done = copied.map_err(|error| match error {
        ConvertError::TargetTooSmall { .. } => {
            Failure::new("output file is smaller than input file")
        }
        other => Failure::new(other.to_string()),
    })?;
    warn_unreadable(done);
    Ok(())
}

fn warn_unreadable(done: ConvertReport) {
    if done.unreadable > 0 {
        eprintln!(
            "{}: warning: {} bytes could not be read and were replaced by zeros",
            called_as("qimg"),
            done.unreadable
        );
    }
}

/// How long to wait so that no more than `rate` bytes are copied in a second.
fn too_early(started: Instant, behind: u64, rate: u64) -> Option<Duration> {
    let seconds = behind / rate;
    let rest = u128::from(behind % rate) * 1_000_000_000 / u128::from(rate);
    let due = Duration::new(seconds, u32::try_from(rest).unwrap_or(u32::MAX));
    due.checked_sub(started.elapsed())
}
