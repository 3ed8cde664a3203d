//! `fmt`: rustfmt agrees with every file.

use crate::command::{root, run_cargo};
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("fmt", words)?;
    run_cargo(&["fmt", "--all", "--check"])?;
    let bench = root().join("bench/Cargo.toml");
    run_cargo(&["fmt", "--manifest-path", &bench.to_string_lossy(), "--check"])
}
