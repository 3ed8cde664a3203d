//! `test`: what the README calls: the real tools first, then our programs, doctests, and
//! every other test; the summary of the test runner is the last thing printed.

use crate::command::{self, answers, cargo};
use crate::failure::Outcome;
use crate::{doctest, environment};

const SCOPE: [&str; 2] = ["--workspace", "--all-features"];

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("test", words)?;
    environment::ensure()?;
    with_path(&["build", "--quiet", "--bins"], &SCOPE)?;
    doctest::run(&[])?;
    if answers(cargo().args(["nextest", "--version"])) {
        return with_path(&["nextest", "run"], &SCOPE);
    }
    println!(
        "cargo-nextest is not installed, so `cargo test` runs the same tests with less isolation; \
         `cargo install --locked cargo-nextest` brings it"
    );
    with_path(&["test", "--no-fail-fast", "--lib", "--bins", "--tests"], &SCOPE)
}

/// Tests start the file system tools by name, wherever the user's path ends.
fn with_path(args: &[&str], scope: &[&str]) -> Outcome {
    command::run(cargo().args(args).args(scope).env("PATH", environment::search_path()))
}
