//! `soak`: random histories of images, for as long as asked, or one of them again.

use crate::command::{self, cargo};
use crate::environment;
use crate::failure::Outcome;
use crate::histories::Histories;

const HISTORIES: Histories = Histories {
    task: "soak",
    test: "soak",
    seconds: "QIMG_SOAK_SECONDS",
    seed: "QIMG_SOAK_SEED",
    release: false,
};

pub(crate) fn run(words: &[String]) -> Outcome {
    let request = HISTORIES.parse(words)?;
    environment::ensure()?;
    // The histories run the programs.
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "qimg-tools", "--bins"]);
    command::run(build.args(request.release.then_some("--release")))?;
    HISTORIES.run(&request)
}
