//! The verbs that ask questions which the real tool does not answer, on images made by it and on
//! images made to deceive.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod audit;
mod chain_files;
mod chain_locks;
mod chain_operations;
mod chain_restore;
mod chain_stand_in;
mod hash;
mod policy;
mod view;

use std::path::Path;

use testkit::{Output, run};

/// Runs our `qimg`.
pub(crate) fn qimg(args: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_qimg")), args)
}
