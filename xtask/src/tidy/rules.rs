//! The rules themselves: a name and a text in, findings out.

use super::statement::bare_matches;

/// A broken rule and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// One-based.
    pub(super) line: usize,
    pub(super) text: String,
}

/// The longest a source file may be, tests included.
const LINES_MAX: usize = 600;

/// Module names under which nobody finds anything.
const VAGUE_NAMES: [&str; 8] =
    ["util", "utils", "helper", "helpers", "common", "misc", "shared", "stuff"];

/// Crates whose code may hold `unsafe`, each use with its reason.
const UNSAFE_CRATES: [&str; 1] = ["block-io/"];

/// What may not be written in code or documents, split so that this table passes itself.
const BANNED: [(&str, &str); 9] = [
    (concat!("TO", "DO"), "finish it, or state the limit as a fact"),
    (concat!("FIX", "ME"), "finish it, or state the limit as a fact"),
    (concat!("XX", "X:"), "finish it, or state the limit as a fact"),
    (concat!("/ho", "me/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("iss", "ue #"), "a number that a reader cannot follow; say the reason"),
    (concat!("this sess", "ion"), "says who wrote it, not what it is"),
    (concat!("the bri", "ef"), "says who wrote it, not what it is"),
];

/// Every rule that applies to the file. `name` is relative to the root, with `/`.
pub(super) fn findings(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = banned(text);
    if name.ends_with(".rs") {
        findings.extend(file_name(name));
        findings.extend(opening(name, text));
        findings.extend(length(text));
        findings.extend(ascii(text));
        findings.extend(forbids_unsafe(name, text));
        findings.extend(
            bare_matches(text)
                .into_iter()
                .map(|line| at(line, "a bare `matches!` checks nothing; wrap it in `assert!`")),
        );
    }
    findings
}

fn at(line: usize, text: impl Into<String>) -> Finding {
    Finding { line, text: text.into() }
}

fn banned(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, reason) in BANNED {
            if line.contains(word) {
                findings.push(at(index + 1, format!("`{word}`: {reason}")));
            }
        }
    }
    findings
}

fn file_name(name: &str) -> Option<Finding> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.trim_end_matches(".rs");
    if stem == "mod" {
        return Some(at(1, "use `foo.rs` beside `foo/`: every file then has a name of its own"));
    }
    let folder_is_vague = name.split('/').any(|part| VAGUE_NAMES.contains(&part));
    (folder_is_vague || VAGUE_NAMES.contains(&stem))
        .then(|| at(1, format!("`{name}` does not say what is inside; name the concept")))
}

/// A crate whose README is its documentation opens by including it.
fn opening(name: &str, text: &str) -> Option<Finding> {
    let first = text.lines().next().unwrap_or_default();
    let by_readme = name.ends_with("lib.rs") && first.starts_with("#![doc = include_str!(");
    let by_sentence = first.starts_with("//! ") && first.len() > "//! ".len();
    (!by_readme && !by_sentence).then(|| at(1, "open the file with a `//!` line: what it is"))
}

fn length(text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    (lines > LINES_MAX)
        .then(|| at(lines, format!("{lines} lines, at most {LINES_MAX}; split it by concept")))
}

fn ascii(text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
    lines.map(|(index, _)| at(index + 1, "not ASCII; escape it")).collect()
}

fn forbids_unsafe(name: &str, text: &str) -> Option<Finding> {
    let program = name.rsplit_once('/').is_some_and(|(folder, _)| folder.ends_with("src/bin"));
    let is_root = program || name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    let exempt = UNSAFE_CRATES.iter().any(|folder| name.starts_with(folder));
    (is_root && !exempt && !text.contains("#![forbid(unsafe_code)]"))
        .then(|| at(1, "a crate root says `#![forbid(unsafe_code)]`"))
}

#[cfg(test)]
mod tests;
