//! `qemu-img bench`: only ascending offsets, and only one process, so it takes part where it can do
//! the same work. It says itself how long the requests took, without its start.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::work::{Direction, Pattern, Work};

const NAME: &str = "qemu-img";

/// Seconds per request, or nothing when it cannot do this work.
pub(crate) fn bench(image: &Path, work: &Work, depth: u32) -> Outcome<Option<f64>> {
    let (skip, step) = match work.pattern {
        Pattern::Clusters { skip } => (skip, 65536),
        Pattern::Sequential => (0, work.block),
        Pattern::Random | Pattern::ClustersShuffled { .. } => return Ok(None),
    };
    if work.threads > 1 {
        return Ok(None);
    }
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", "qcow2", "-t", "writeback"]);
    if work.direction == Direction::Write {
        command.arg("-w");
    }
    if let Some(every) = work.flush_every {
        command.arg(format!("--flush-interval={every}"));
    }
    command.args(["-c", &work.requests.to_string(), "-d", &depth.to_string()]);
    command.args(["-s", &work.block.to_string(), "-S", &step.to_string(), "-o", &skip.to_string()]);
    let output = command.arg(image).output().map_err(|error| Failure::of(NAME)(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Failure::of(NAME)(&String::from_utf8_lossy(&output.stderr)));
    }
    let seconds = text.split("Run completed in ").nth(1).and_then(|rest| rest.split(' ').next());
    let seconds = seconds.and_then(|seconds| seconds.parse::<f64>().ok());
    let seconds = seconds.ok_or_else(|| Failure::of(NAME)(&format!("no time in: {text}")))?;
    Ok(Some(seconds / work.requests as f64))
}

/// Whether the real tool finds an image sound; leaks are allowed.
pub(crate) fn check(image: &Path) -> Outcome<bool> {
    let output = Command::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(image).output();
    let output = output.map_err(|error| Failure::of(NAME)(&error))?;
    Ok(matches!(output.status.code(), Some(0 | 3)))
}
