//! `fmt`: rustfmt agrees with every file.

use crate::command::run_cargo;
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("fmt", words)?;
    run_cargo(&["fmt", "--all", "--check"])
}
