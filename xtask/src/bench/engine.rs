//! `bench engine`: the engine in process. The work is done by `bench/`, a workspace of its own, so that
//! the crates it compares with are built only by who asks for the comparison.

use std::path::PathBuf;

use super::run as runs;
use crate::command::{self, cargo, root};
use crate::failure::Outcome;

pub(super) fn run(cases: &[String]) -> Outcome<PathBuf> {
    let folder = runs::folder()?;
    let numbers = folder.join("engine.json");
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--manifest-path"]);
    bench.arg(root().join("bench/Cargo.toml")).arg("--");
    bench.arg(folder.join("engine")).arg(&numbers).args(cases);
    command::run(&mut bench)?;
    Ok(numbers)
}
