//! In-process benchmarks: this house beside the crates `imago` and `qcow2-rs`, beside `qemu-img bench`
//! where it can do the same work, and beside bare `pread`/`pwrite`. Started by `cargo xtask bench engine`;
//! chains by depth by `cargo xtask bench chain`.
#![forbid(unsafe_code)]

mod cases;
mod chain;
mod contender;
mod contenders;
mod failure;
mod measure;
mod media;
mod memory;
mod report;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use failure::{Failure, Outcome};

/// `FOLDER JSON [CASE...]`, `chain FOLDER JSON`, or, in processes of their own, `memory CONTENDER IMAGE`
/// and `chain-memory IMAGE`.
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.first().map(String::as_str) {
        Some("memory") => memory::child(&words[1..]),
        Some("chain") => chain::run(&words[1..]),
        Some("chain-memory") => chain::child(&words[1..]),
        Some(_) if words.len() >= 2 => engine(&words),
        _ => Err(Failure::Usage),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn engine(words: &[String]) -> Outcome {
    let (folder, json) = (PathBuf::from(&words[0]), PathBuf::from(&words[1]));
    std::fs::create_dir_all(&folder).map_err(Failure::file(&folder))?;
    let wanted = &words[2..];
    let media = media::Media::make(&folder)?;
    let mut rows = Vec::new();
    for case in cases::all() {
        if wanted.is_empty() || wanted.iter().any(|word| case.name.contains(word.as_str())) {
            eprintln!("{}", case.name);
            rows.push(measure::measure(&case, &media)?);
        }
    }
    let memory =
        match wanted.is_empty() || wanted.iter().any(|word| "memory".contains(word.as_str())) {
            true => memory::measure(&media)?,
            false => Vec::new(),
        };
    if rows.is_empty() && memory.is_empty() {
        return Err(Failure::NoSuchCase);
    }
    print!("{}", report::table(&rows, &memory));
    std::fs::write(&json, report::json(&rows, &memory)).map_err(Failure::file(&json))
}
