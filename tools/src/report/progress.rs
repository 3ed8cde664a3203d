//! Progress: the bytes `-p` prints in qemu-img, a line for whoever sends SIGUSR1, objects for
//! programs, or a bar for people at a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::everywhere;
use crate::called::stands_in;

/// Shows how far a long operation is. Nobody may be looking any more: output that fails is dropped,
/// and the work goes on.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    total: u64,
    done: u64,
    /// Bytes when they were last counted aloud.
    counted: u64,
    /// Percent it moves before it is shown again.
    step: f64,
    last: f64,
    started: Instant,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    /// `-p`: percentages.
    Lines(Stream),
    /// `-p` where nobody knows how much there will be: bytes.
    Count(Stream),
    /// `--progress=json`: objects on standard error.
    Objects,
    /// No `-p`, but somebody is looking at standard error.
    Bar(ProgressBar),
}

/// Where percentages go.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Stdout,
    Stderr,
}

/// Bytes of unknown many after which the count is printed again.
const COUNT_STEP_BYTES: u64 = 64 << 20;

/// Percent a conversion moves before it prints again.
pub const CONVERT_STEP: f64 = 1.0;
/// Percent an amendment moves before it prints again.
pub const AMEND_STEP: f64 = 1.0;
/// Percent a comparison moves before it prints again.
pub const COMPARE_STEP: f64 = 2.0;

/// Raised by SIGUSR1: somebody wants to know how far it is.
static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on SIGUSR1 is a question, and no longer the end of the process.
pub fn listen() {
    let asked = ASKED.get_or_init(Arc::default);
    // Without it the signal ends the process, as it ends any other.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(asked));
}

impl Progress {
    /// Decides by the flags: `-q` shows nothing, `-p` prints percentages, `--progress=json` objects,
    /// and otherwise a bar appears if standard error is a terminal and this is no other program.
    #[must_use]
    pub fn start(quiet: bool, lines: bool, step: f64, total: u64) -> Self {
        Self::begin(quiet, lines, step, total, Stream::Stdout)
    }

    /// Like [`start`](Self::start), for when standard output is the data: percentages go to standard
    /// error.
    #[must_use]
    pub fn start_beside_data(quiet: bool, lines: bool, step: f64, total: u64) -> Self {
        Self::begin(quiet, lines, step, total, Stream::Stderr)
    }

    /// Like [`start`](Self::start), for when nobody knows how much there will be: bytes are shown, on
    /// standard error where standard output is the data.
    #[must_use]
    pub fn start_counting(quiet: bool, lines: bool, beside_data: bool) -> Self {
        let stream = if beside_data { Stream::Stderr } else { Stream::Stdout };
        Self::new(Shown::choose(quiet, lines, Shown::Count(stream), counter), 0.0, 0)
    }

    fn begin(quiet: bool, lines: bool, step: f64, total: u64, stream: Stream) -> Self {
        let shown = Shown::choose(quiet, lines, Shown::Lines(stream), || bar(total));
        let progress = Self::new(shown, step, total);
        progress.print(0.0);
        progress
    }

    fn new(shown: Shown, step: f64, total: u64) -> Self {
        Self { shown, total, done: 0, counted: 0, step, last: 0.0, started: Instant::now() }
    }

    /// `done` bytes (or whatever `total` counts) are behind us.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        let now = percent(done, self.total);
        self.answer(now);
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Count(_) if done - self.counted < COUNT_STEP_BYTES => {}
            Shown::Count(_) => {
                self.counted = done;
                self.print(now);
            }
            _ if now - self.last >= self.step => {
                self.last = now;
                self.print(now);
            }
            _ => {}
        }
    }

    /// Advances by `more`.
    pub fn add(&mut self, more: u64) {
        self.set(self.done.saturating_add(more));
    }

    /// Everything is done: shows 100 percent.
    pub fn complete(&mut self) {
        if matches!(self.shown, Shown::Count(_)) {
            return self.print(100.0);
        }
        self.done = self.total;
        self.answer(100.0);
        if self.last < 100.0 {
            self.print(100.0);
        }
    }

    /// Ends the line, after success and after failure alike.
    pub fn end(self) {
        match self.shown {
            Shown::Nothing | Shown::Objects => {}
            Shown::Lines(stream) | Shown::Count(stream) => show("\n", stream),
            Shown::Bar(bar) => bar.finish_and_clear(),
        }
    }

    /// Tells whoever sent SIGUSR1, unless they see it anyway.
    fn answer(&self, percent: f64) {
        let asked = ASKED.get().is_some_and(|asked| asked.swap(false, Ordering::Relaxed));
        if asked && !matches!(self.shown, Shown::Lines(_)) {
            let _ = writeln!(io::stderr(), "    ({percent:.2}/100%)");
        }
    }

    fn print(&self, percent: f64) {
        match self.shown {
            Shown::Lines(stream) => show(&line(percent), stream),
            Shown::Count(stream) => show(&count_line(self.done), stream),
            Shown::Objects => {
                let text = object(self.done, self.total, self.started.elapsed().as_secs_f64());
                let _ = writeln!(io::stderr(), "{text}");
            }
            Shown::Nothing | Shown::Bar(_) => {}
        }
    }
}

impl Shown {
    /// By the flags; `lines` is what `-p` means here, `bar` what somebody at a terminal sees.
    fn choose(quiet: bool, wanted: bool, lines: Self, bar: impl FnOnce() -> ProgressBar) -> Self {
        match (quiet, wanted) {
            (true, _) => Self::Nothing,
            (false, true) if everywhere::forms().json_progress => Self::Objects,
            (false, true) => lines,
            (false, false) if io::stderr().is_terminal() && !stands_in() => Self::Bar(bar()),
            (false, false) => Self::Nothing,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(done: u64, total: u64) -> f64 {
    if total == 0 { 100.0 } else { (done as f64 / total as f64 * 100.0).min(100.0) }
}

fn show(text: &str, stream: Stream) {
    let mut out: Box<dyn Write> = match stream {
        Stream::Stdout => Box::new(io::stdout()),
        Stream::Stderr => Box::new(io::stderr()),
    };
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(percent: f64) -> String {
    format!("    ({percent:.2}/100%)\r")
}

fn count_line(bytes: u64) -> String {
    format!("    ({bytes} bytes)\r")
}

fn counter() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {binary_bytes}  {binary_bytes_per_sec}");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar, // the default style will do
    }
}

/// What programs are told.
#[derive(Serialize)]
struct Object<'a> {
    transferred: u64,
    size: u64,
    /// Seconds.
    elapsed: f64,
    description: &'a str,
}

fn object(transferred: u64, size: u64, elapsed: f64) -> String {
    let description = &everywhere::forms().verb;
    let object = Object { transferred, size, elapsed, description };
    serde_json::to_string(&object).unwrap_or_default() // numbers and a text always are JSON
}

fn bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {percent:>3}%  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}",
    );
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar, // the default style will do
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_one_scripts_parse() {
        assert_eq!(line(0.0), "    (0.00/100%)\r");
        assert_eq!(line(percent(1, 3)), "    (33.33/100%)\r");
        assert_eq!(line(percent(5, 5)), "    (100.00/100%)\r");
        assert_eq!(line(percent(0, 0)), "    (100.00/100%)\r");
    }

    #[test]
    fn objects_have_four_members() {
        let object: serde_json::Value = serde_json::from_str(&object(5, 10, 0.5)).unwrap();
        let expected = serde_json::json!(
            {"transferred": 5, "size": 10, "elapsed": 0.5, "description": ""}
        );
        assert_eq!(object, expected);
    }
}
