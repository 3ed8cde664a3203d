//! What verbs that move data through a chain share: progress, rate, plans in words and as JSON, and
//! why an operation was refused.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qimg::chain::{Error, Moved, Plan, Progress as Step, Refusal, Step as PlanStep, Watch};
use serde_json::{Value, json};

use crate::args::size;
use crate::called;
use crate::failure::Failure;
use crate::open::{cause, explain_without_sharing};
use crate::report::progress::Progress;

/// Percent that an operation moves before it prints again.
pub(crate) const OPERATION_STEP: f64 = 1.0;
/// Longest a thread sleeps to keep a rate.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How an operation is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) quiet: bool,
    /// `-p`.
    pub(crate) lines: bool,
    /// Percent between two lines.
    pub(crate) step: f64,
    /// Bytes per second at most.
    pub(crate) rate: Option<u64>,
}

/// Reads the value of `-r`.
///
/// 0 is no limit, as for the real tool.
///
/// # Errors
/// It is no size.
pub(crate) fn rate(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match size::parse(text) {
        Ok(rate) => Ok(Some(rate).filter(|rate| *rate > 0)),
        Err(_) => Err(Failure::new(format!("Invalid rate limit specified: '{text}'."))),
    }
}

/// Why an operation did not come to its end.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) error: Error,
    /// Everything was open, and data had begun to move.
    pub(crate) moving: bool,
}

impl Stopped {
    /// What a verb of the real tool says: `refuse` finds the words while nothing has moved;
    /// afterwards the real tool says `moving`, and the cause.
    pub(crate) fn failure(self, moving: &str, refuse: impl FnOnce(&Error) -> Failure) -> Failure {
        match &self.error {
            Error::Refused(_) | Error::Cancelled => refuse(&self.error),
            error if self.moving && called::stands_in() => {
                Failure::new(format!("{moving}: {}", cause(error)))
            }
            error if self.moving => Failure::new(words(error)),
            error => refuse(error),
        }
    }
}

impl Watched {
    /// Runs an operation under watch.
    pub(crate) fn run(
        &self,
        operation: impl FnOnce(Watch<'_>) -> Result<Moved, Error>,
    ) -> Result<Moved, Stopped> {
        let shown = Mutex::new(None);
        let begun = Instant::now();
        let done = operation(Watch::none().progress(&|step: Step| {
            {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                let start = || Progress::start(self.quiet, self.lines, self.step, step.total);
                shown.get_or_insert_with(start).set(step.done);
            }
            self.keep_rate(step.done, begun);
        }));
        let shown = shown.into_inner().unwrap_or_else(PoisonError::into_inner);
        let moving = shown.is_some();
        let mut shown =
            shown.unwrap_or_else(|| Progress::start(self.quiet, self.lines, self.step, 0));
        if done.is_ok() {
            shown.complete();
        }
        shown.end();
        done.map_err(|error| Stopped { error, moving })
    }

    /// Whoever is ahead of the rate waits.
    fn keep_rate(&self, done: u64, begun: Instant) {
        let Some(rate) = self.rate else { return };
        let micros = u128::from(done) * 1_000_000 / u128::from(rate.max(1));
        let due = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        thread::sleep(due.saturating_sub(begun.elapsed()).min(PAUSE_MAX));
    }
}

/// Why an operation did not happen, with the flag that helps.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::Refused(Refusal::SharedBase { .. } | Refusal::InternalSnapshots { .. }) => {
            format!("{error:#}; --force does it all the same")
        }
        error => explain_without_sharing(error),
    }
}

/// What was moved, for people.
pub(crate) fn moved_text(moved: &Moved) -> String {
    let mut text = format!("{} bytes read, {} written", moved.read, moved.written);
    if moved.zeroed > 0 {
        text.push_str(&format!(", {} zeroed", moved.zeroed));
    }
    text
}

/// A plan, for programs.
pub(crate) fn plan_json(plan: &Plan) -> Value {
    let steps: Vec<_> = plan.steps().iter().map(step_json).collect();
    json!({ "operation": plan.operation(), "steps": steps })
}

/// A path as JSON can hold it: what is not UTF-8 is replaced.
pub(crate) fn text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

fn step_json(step: &PlanStep) -> Value {
    match step {
        PlanStep::Create { file, backing, size } => {
            json!({ "do": "create", "file": text(file), "backing": backing, "virtual-size": size })
        }
        PlanStep::Grow { file, from, to } => {
            json!({ "do": "grow", "file": text(file), "from": from, "to": to })
        }
        PlanStep::Compare { files, bytes } => {
            let files: Vec<_> = files.iter().map(|file| text(file)).collect();
            json!({ "do": "compare", "files": files, "bytes": bytes })
        }
        PlanStep::Copy { from, into, data, zeros } => {
            let read =
                |(file, bytes): &(PathBuf, u64)| json!({ "file": text(file), "bytes": bytes });
            let from: Vec<_> = from.iter().map(read).collect();
            json!({ "do": "copy", "from": from, "into": text(into), "data": data, "zeros": zeros })
        }
        PlanStep::SwitchBacking { file, from, to } => {
            json!({ "do": "switch-backing", "file": text(file), "from": from, "to": to })
        }
        PlanStep::Empty { file } => json!({ "do": "empty", "file": text(file) }),
        PlanStep::Release { file } => json!({ "do": "release", "file": text(file) }),
        other => json!({ "do": other.to_string() }),
    }
}
