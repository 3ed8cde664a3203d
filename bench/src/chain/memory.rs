//! Peak memory of a process that opens a chain and reads all of its disk and then anywhere.

use std::path::Path;
use std::process::Command;

use qimg::chain::OpenOptions;

use super::layers::{DATA, path};
use super::reads::{open, read, warm};
use crate::failure::{Failure, Outcome};
use crate::work::Offsets;

/// Peak memory at one depth, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) depth: usize,
    pub(super) peak: u64,
    /// What the index takes of it.
    pub(super) index: u64,
}

/// Measures in a process of its own.
pub(super) fn measure(folder: &Path, depth: usize) -> Outcome<Memory> {
    let program = std::env::current_exe().map_err(|error| Failure::of("memory")(&error))?;
    let output = Command::new(program).arg("chain-memory").arg(path(folder, depth)).output();
    let output = output.map_err(|error| Failure::of("memory")(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(peak)), Some(Ok(index))) = (numbers.next(), numbers.next()) else {
        return Err(Failure::of("memory")(&String::from_utf8_lossy(&output.stderr)));
    };
    Ok(Memory { depth, peak, index })
}

/// `IMAGE`: the process that opens; prints the peak and the bytes of the index.
pub(crate) fn child(words: &[String]) -> Outcome {
    let [image] = words else { return Err(Failure::Usage) };
    let chain = open(Path::new(image), OpenOptions::new())?;
    warm(&chain)?;
    let mut buf = vec![0; 4096];
    let mut offsets = Offsets::new(1);
    for _ in 0..2000 {
        read(&chain, offsets.below(DATA / 4096) * 4096, &mut buf)?;
    }
    // Beyond the data, too: the tables of every layer are looked at.
    let mut at = 0;
    while at < chain.virtual_size() {
        let status = chain.status_at(at, chain.virtual_size() - at);
        at += status.map_err(|error| Failure::of("memory")(&error))?.len.max(1);
    }
    println!("{} {}", crate::memory::peak()?, chain.index_bytes());
    Ok(())
}
