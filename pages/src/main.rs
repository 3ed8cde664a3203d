//! Writes the manual pages and shell completions of `qimg` and `qimg-io` into a folder:
//! `qimg-pages FOLDER`. The programs themselves carry nothing of it.
#![forbid(unsafe_code)]

mod completions;
mod manual;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder] = words.as_slice() else {
        eprintln!("usage: qimg-pages FOLDER");
        return ExitCode::FAILURE;
    };
    match write_all(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qimg-pages: {}: {error}", Path::new(folder).display());
            ExitCode::FAILURE
        }
    }
}

/// Pages go to `man`, completions to a folder for each shell.
fn write_all(folder: &Path) -> io::Result<()> {
    for program in programs() {
        manual::write(&folder.join("man"), &program)?;
        completions::write(folder, &program)?;
    }
    Ok(())
}

/// The command lines of both programs.
fn programs() -> [Command; 2] {
    [tools::args::Cli::command(), tools::io::args::Args::command()]
}
