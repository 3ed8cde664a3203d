//! `docs`: rustdoc builds without a warning, so no link in it is broken.

use crate::command::{cargo, run};
use crate::failure::Outcome;

pub(crate) fn run_docs(words: &[String]) -> Outcome {
    crate::no_arguments("docs", words)?;
    run(cargo()
        .args(["doc", "--quiet", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}
