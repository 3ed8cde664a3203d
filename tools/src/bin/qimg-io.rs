//! The program `qimg-io`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::run(&std::env::args_os().collect::<Vec<_>>(), tools::called::Program::Io).into()
}
