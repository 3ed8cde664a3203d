//! A few commands by programs in a folder, with nothing else of this machine: an overlay is made,
//! written, checked, copied to a file and through a pipe, and compared.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::unexpected;
use crate::command::{output_of, run};
use crate::failure::{Failure, Outcome};

/// Command lines that end well, by program.
const COMMANDS: [(&str, &[&str]); 7] = [
    ("qimg", &["create", "-q", "-f", "raw", "base.raw", "4M"]),
    ("qimg-io", &["-f", "raw", "-c", "write -q -P 1 1M 1M", "base.raw"]),
    ("qimg", &["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2"]),
    ("qimg-io", &["-f", "qcow2", "-c", "write -q -P 2 1500k 100k", "top.qcow2"]),
    ("qimg", &["check", "-q", "top.qcow2"]),
    ("qimg", &["convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "top.qcow2", "flat"]),
    ("qimg", &["compare", "-q", "top.qcow2", "flat"]),
];

/// Tries the programs in `programs`; images go into a folder of their own in `scratch`.
pub(super) fn test(programs: &Path, scratch: &Path) -> Outcome {
    let folder = scratch.join("smoke");
    fs::create_dir_all(&folder).map_err(Failure::at(&folder))?;
    let start = |program: &str| {
        let mut command = Command::new(programs.join(program));
        command.current_dir(&folder).env_clear();
        command
    };
    for program in super::PROGRAMS {
        let said = output_of(start(program).arg("--version"))?;
        if said.trim_end() != format!("{program} {}", env!("CARGO_PKG_VERSION")) {
            return Err(unexpected("version of a program", said));
        }
    }
    for (program, args) in COMMANDS {
        run(start(program).args(args))?;
    }
    let path = folder.join("piped.qcow2");
    let piped = File::create(&path).map_err(Failure::at(&path))?;
    run(start("qimg").args(["convert", "-O", "qcow2", "top.qcow2", "-"]).stdout(piped))?;
    run(start("qimg").args(["check", "-q", "piped.qcow2"]))?;
    run(start("qimg").args(["compare", "-q", "top.qcow2", "piped.qcow2"]))?;
    fs::remove_dir_all(&folder).map_err(Failure::at(&folder))
}
