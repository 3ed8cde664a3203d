//! Progress: the bytes `-p` prints in qemu-img, or a bar for people at a terminal.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a long operation is. Nobody may be looking any more: output that fails is dropped,
/// and the work goes on.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    total: u64,
    done: u64,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    /// `-p`: percentages on standard output, one each time it moved by `step` percent.
    Lines {
        step: f64,
        last: f64,
        stream: Stream,
    },
    /// `-p` where nobody knows how much there will be: bytes.
    Count {
        last: u64,
        stream: Stream,
    },
    /// No `-p`, but somebody is looking at standard error.
    Bar(ProgressBar),
}

/// Where percentages go.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Stdout,
    Stderr,
}

/// Percent a conversion moves before it prints again.
pub const CONVERT_STEP: f64 = 1.0;
/// Bytes of unknown many after which the count is printed again.
const COUNT_STEP_BYTES: u64 = 64 << 20;
/// Percent an amendment moves before it prints again.
pub const AMEND_STEP: f64 = 1.0;
/// Percent a comparison moves before it prints again.
pub const COMPARE_STEP: f64 = 2.0;

impl Progress {
    /// Decides by the flags: `-q` shows nothing, `-p` prints percentages, and otherwise a bar
    /// appears if standard error is a terminal.
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
        let shown = match (quiet, lines) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Count { last: 0, stream },
            (false, false) if io::stderr().is_terminal() => Shown::Bar(counter()),
            (false, false) => Shown::Nothing,
        };
        Self { shown, total: 0, done: 0 }
    }

    fn begin(quiet: bool, lines: bool, step: f64, total: u64, stream: Stream) -> Self {
        let shown = match (quiet, lines) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Lines { step, last: 0.0, stream },
            (false, false) if io::stderr().is_terminal() => Shown::Bar(bar(total)),
            (false, false) => Shown::Nothing,
        };
        let progress = Self { shown, total, done: 0 };
        if let Shown::Lines { .. } = progress.shown {
            print(0.0, stream);
        }
        progress
    }

    /// `done` bytes (or whatever `total` counts) are behind us.
    pub fn set(&mut self, done: u64) {
        self.done = done;
        let now = percent(done, self.total);
        match &mut self.shown {
            Shown::Lines { step, last, stream } if now - *last >= *step => {
                *last = now;
                print(now, *stream);
            }
            Shown::Count { last, stream } if done - *last >= COUNT_STEP_BYTES => {
                *last = done;
                show(&count_line(done), *stream);
            }
            Shown::Bar(bar) => bar.set_position(done),
            _ => {}
        }
    }

    /// Advances by `more`.
    pub fn add(&mut self, more: u64) {
        self.set(self.done.saturating_add(more));
    }

    /// Everything is done: shows 100 percent.
    pub fn complete(&self) {
        match self.shown {
            Shown::Lines { last, stream, .. } if last < 100.0 => print(100.0, stream),
            Shown::Count { stream, .. } => show(&count_line(self.done), stream),
            _ => {}
        }
    }

    /// Ends the line, after success and after failure alike.
    pub fn end(self) {
        match self.shown {
            Shown::Nothing => {}
            Shown::Lines { stream, .. } | Shown::Count { stream, .. } => show("\n", stream),
            Shown::Bar(bar) => bar.finish_and_clear(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(done: u64, total: u64) -> f64 {
    if total == 0 { 100.0 } else { (done as f64 / total as f64 * 100.0).min(100.0) }
}

fn print(percent: f64, stream: Stream) {
    show(&line(percent), stream);
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
}
