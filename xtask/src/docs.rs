//! `docs`: rustdoc builds without a warning, so no link in it is broken.

use crate::command::{self, cargo};
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("docs", words)?;
    let scope = ["doc", "--quiet", "--workspace", "--no-deps", "--all-features"];
    command::run(cargo().args(scope).env("RUSTDOCFLAGS", "-D warnings"))
}
