//! `clippy`: the lints of the workspace, warnings as errors, with all features and with those that
//! can be left out left out.

use crate::command::{root, run_cargo};
use crate::failure::Outcome;

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("clippy", words)?;
    lint(&["--workspace", "--all-targets", "--all-features"])?;
    // Elsewhere the workspace has them all: only crates by themselves can lack one. The programs
    // have all others below them, as users build them.
    lint(&["--package", "qimg-tools", "--no-default-features"])?;
    for features in ["", "deflate", "zstd"] {
        lint(&["--package", "cow-engine", "--no-default-features", "--features", features])?;
    }
    // A workspace of its own, here without the crates that it compares with.
    let bench = root().join("bench/Cargo.toml");
    let built = root().join("target");
    let (bench, built) = (bench.to_string_lossy(), built.to_string_lossy());
    lint(&["--manifest-path", &bench, "--target-dir", &built, "--no-default-features"])
}

fn lint(scope: &[&str]) -> Outcome {
    run_cargo(&[&["clippy", "--quiet"], scope, &["--", "-D", "warnings"]].concat())
}
