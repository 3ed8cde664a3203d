//! The program `qimg`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tools::program::run(&std::env::args_os().collect::<Vec<_>>()).into()
}
