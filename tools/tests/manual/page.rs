//! A page of the manual: what of its Markdown is run, and what its readers are told to expect.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Opens the hidden block that prepares files for a page; it must be the first line.
const SET_UP: &str = "<!-- set-up";
const SET_UP_END: &str = "-->";
const FENCE: &str = "```";
/// States the exit code of the command above it, where that is not 0.
const EXIT: &str = "# exit ";

/// Something that is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole script, which must succeed.
    Script { line: usize, text: String },
    /// One command, with all that it prints and its exit code.
    Command(Command),
}

/// A command as a page shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its line in the page, from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) output: Vec<String>,
    pub(crate) code: i32,
    /// The lines of the page that hold output and exit code, from 0.
    pub(crate) answer: Range<usize>,
}

/// A page, taken apart.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

/// What a fence says about its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Console,
    Script,
    /// A picture made of characters.
    Picture,
    /// Code that documentation tests compile.
    Rust,
}

/// Headings of a page whose scripts are not run, each with its reason.
pub(crate) type NotRun<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(crate) fn read(path: &Path, not_run: NotRun<'_>) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(path, &text, not_run)
    }

    pub(crate) fn parse(path: &Path, text: &str, not_run: NotRun<'_>) -> Result<Self, String> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let steps = steps(&lines, not_run)
            .map_err(|(line, what)| format!("{}:{line}: {what}", path.display()))?;
        Ok(Self { path: path.to_owned(), lines, steps })
    }
}

/// A line, from 1, and what is wrong there.
type Wrong = (usize, String);

fn steps(lines: &[String], not_run: NotRun<'_>) -> Result<Vec<Step>, Wrong> {
    let mut steps = Vec::new();
    let mut heading = "";
    let mut skipped: Vec<&str> = Vec::new();
    let mut at = 0;
    if lines.first().is_some_and(|line| line == SET_UP) {
        let end = block_end(lines, 1, SET_UP_END)?;
        steps.push(Step::Script { line: 2, text: lines[1..end].join("\n") });
        at = end + 1;
    }
    while at < lines.len() {
        let line = &lines[at];
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim();
        }
        let Some(kind) = fence(line, at)? else {
            at += 1;
            continue;
        };
        let end = block_end(lines, at + 1, FENCE)?;
        let block = at + 1..end;
        if kind == Kind::Script && not_run.iter().any(|(name, _)| *name == heading) {
            skipped.push(heading);
        } else {
            add(&mut steps, kind, lines, block)?;
        }
        at = end + 1;
    }
    match not_run.iter().find(|(name, _)| !skipped.contains(name)) {
        Some((name, _)) => Err((1, format!("there is no script below a heading '{name}'"))),
        None => Ok(steps),
    }
}

/// What block begins on this line, if one does.
fn fence(line: &str, at: usize) -> Result<Option<Kind>, Wrong> {
    let wrong = |what: &str| Err((at + 1, what.to_owned()));
    if line.starts_with("    ") || line.starts_with('\t') {
        return wrong("an indented block is code that nobody runs; use a fence");
    }
    let trimmed = line.trim_start();
    if trimmed.starts_with("~~~") || (trimmed.starts_with(FENCE) && trimmed != line) {
        return wrong("a fence is three backticks at the start of a line");
    }
    if line.starts_with("<!--") {
        return wrong("a set-up is hidden in the first line of a page, and nothing elsewhere");
    }
    let Some(info) = line.strip_prefix(FENCE) else { return Ok(None) };
    match info {
        "console" => Ok(Some(Kind::Console)),
        "sh" => Ok(Some(Kind::Script)),
        "text" => Ok(Some(Kind::Picture)),
        "rust" => Ok(Some(Kind::Rust)),
        other => wrong(&format!("unknown fence '{other}': console, sh, text and rust are known")),
    }
}

fn block_end(lines: &[String], from: usize, end: &str) -> Result<usize, Wrong> {
    let found = lines[from..].iter().position(|line| line == end);
    found.map(|found| from + found).ok_or((from, format!("no '{end}' ends this block")))
}

fn add(
    steps: &mut Vec<Step>,
    kind: Kind,
    lines: &[String],
    block: Range<usize>,
) -> Result<(), Wrong> {
    let (line, body) = (block.start + 1, &lines[block.clone()]);
    let find = |wrong: fn(&str) -> bool| body.iter().position(|text| wrong(text));
    match kind {
        Kind::Rust => {}
        Kind::Picture => {
            if let Some(found) = find(|text| text.starts_with("$ ") || text.starts_with("qimg")) {
                return Err((line + found, "a command in a block that is not run".to_owned()));
            }
        }
        Kind::Script => {
            if let Some(found) = find(|text| text.starts_with(EXIT) || text.starts_with("$ ")) {
                return Err((line + found, "this belongs into a console block".to_owned()));
            }
            steps.push(Step::Script { line, text: body.join("\n") });
        }
        Kind::Console => {
            let mut at = block.start;
            while at < block.end {
                let (command, next) = command(lines, at, block.end)?;
                steps.push(Step::Command(command));
                at = next;
            }
        }
    }
    Ok(())
}

/// The command that begins on a line, and the line behind its output.
fn command(lines: &[String], at: usize, end: usize) -> Result<(Command, usize), Wrong> {
    let Some(first) = lines[at].strip_prefix("$ ") else {
        return Err((at + 1, "a console block begins with '$ ' and a command".to_owned()));
    };
    let mut text = first.to_owned();
    let mut next = at + 1;
    while text.ends_with('\\') && next < end {
        text.push('\n');
        text.push_str(&lines[next]);
        next += 1;
    }
    let answer = lines[next..end].iter().position(|line| line.starts_with("$ "));
    let answer = next..answer.map_or(end, |found| next + found);
    let mut output = lines[answer.clone()].to_vec();
    let stated = output.iter().position(|line| line.starts_with(EXIT));
    let code = match stated {
        None => 0,
        Some(found) if found + 1 == output.len() => {
            let number = output[found][EXIT.len()..].parse::<u8>();
            output.pop();
            number.map_err(|error| (answer.end, format!("no exit code: {error}")))?
        }
        Some(found) => {
            return Err((answer.start + found + 1, "an exit code stands below the output".into()));
        }
    };
    let next = answer.end;
    Ok((Command { line: at + 1, text, output, code: code.into(), answer }, next))
}
