#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod args;
pub mod base;
pub mod called;
pub mod creation;
pub mod exit;
pub mod failure;
pub mod io;
pub mod open;
pub mod program;
pub mod report;
pub mod verb;

use std::ffi::OsString;

use called::Program;
use failure::Failure;

/// Runs the program that the first of the arguments names, or else the one this file was built as,
/// and returns its exit code.
#[must_use]
pub fn run(arguments: &[OsString], built_as: Program) -> u8 {
    match called::settle(arguments.first().map(OsString::as_os_str), built_as) {
        Program::Image => program::run(arguments),
        Program::Io => io::run(arguments),
        Program::Nbd => {
            let absent = "there is no NBD server here yet; use the qemu-nbd of QEMU";
            program::finish(Program::Nbd.own_name(), Err(Failure::new(absent)))
        }
    }
}
