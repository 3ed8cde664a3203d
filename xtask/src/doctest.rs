//! `doctest`: the examples in the documentation, which nextest does not run.

use crate::command::run_cargo;
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("doctest", words)?;
    run_cargo(&["test", "--quiet", "--workspace", "--all-features", "--doc"])
}
