//! `clippy`: the lints of the workspace, warnings as errors.

use crate::command::run_cargo;
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("clippy", words)?;
    let scope = ["clippy", "--quiet", "--workspace", "--all-targets", "--all-features"];
    run_cargo(&[&scope[..], &["--", "-D", "warnings"]].concat())
}
