//! What `bench/` measures in process: it makes the chains, too.

use std::path::Path;

use serde_json::Value;

use crate::command::{self, cargo, root};
use crate::failure::{Failure, Outcome};

/// What was found in process.
#[derive(Debug)]
pub(super) struct Inside {
    /// As it was written.
    pub(super) numbers: Value,
    pub(super) reads: Vec<Reads>,
    pub(super) memory: Vec<Memory>,
}

/// Seconds of a random read of 4 KiB, round by round.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    pub(super) depth: u64,
    pub(super) index: Vec<f64>,
    /// Every layer asked, every time.
    pub(super) walk: Vec<f64>,
}

/// Peak memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) depth: u64,
    pub(super) peak: u64,
    /// What the index takes of it.
    pub(super) index: u64,
}

/// Runs the program of `bench/` and reads what it wrote.
pub(super) fn measure(folder: &Path) -> Outcome<Inside> {
    let file = folder.join("chain-inside.json");
    let mut bench = cargo();
    bench.args(["run", "--quiet", "--release", "--no-default-features", "--manifest-path"]);
    bench.arg(root().join("bench/Cargo.toml")).arg("--target-dir").arg(root().join("target"));
    bench.args(["--", "chain"]).arg(folder.join("chain")).arg(&file);
    command::run(&mut bench)?;
    let text = std::fs::read_to_string(&file).map_err(Failure::at(&file))?;
    read(&text).ok_or(Failure::Unexpected { what: "numbers of bench/", found: text })
}

fn read(text: &str) -> Option<Inside> {
    let numbers: Value = serde_json::from_str(text).ok()?;
    let reads = |row: &Value| {
        let (index, walk) = (rounds(&row["index"])?, rounds(&row["walk"])?);
        Some(Reads { depth: row["depth"].as_u64()?, index, walk })
    };
    let memory = |row: &Value| {
        let field = |name: &str| row[name].as_u64();
        Some(Memory { depth: field("depth")?, peak: field("peak")?, index: field("index")? })
    };
    let reads = numbers["reads"].as_array()?.iter().map(reads).collect::<Option<_>>()?;
    let memory = numbers["memory"].as_array()?.iter().map(memory).collect::<Option<_>>()?;
    Some(Inside { numbers, reads, memory })
}

fn rounds(rounds: &Value) -> Option<Vec<f64>> {
    rounds.as_array()?.iter().map(Value::as_f64).collect()
}

/// The number in the middle; nothing without rounds.
pub(super) fn median(rounds: &[f64]) -> Option<f64> {
    let mut rounds = rounds.to_vec();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied()
}

/// One line per depth.
pub(super) fn table(inside: &Inside) -> String {
    let mut text = String::from("random read of 4 KiB, in process, microseconds\n");
    text.push_str("depth      index  every layer asked\n");
    for reads in &inside.reads {
        let micros = |rounds: &[f64]| median(rounds).unwrap_or(0.0) * 1e6;
        let (index, walk) = (micros(&reads.index), micros(&reads.walk));
        text.push_str(&format!("{:<6}  {index:>8.2}  {walk:>17.2}\n", reads.depth));
    }
    text.push_str("\npeak memory of a process, KiB\ndepth        all      index\n");
    for Memory { depth, peak, index } in &inside.memory {
        text.push_str(&format!("{depth:<6}  {:>8}  {:>9}\n", peak / 1024, index / 1024));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_program_are_understood() {
        let text = r#"{ "reads": [{ "depth": 10, "index": [3e-6, 1e-6, 2e-6], "walk": [4e-6] }],
                        "memory": [{ "depth": 10, "peak": 4096, "index": 1024 }] }"#;
        let inside = read(text).unwrap();
        assert_eq!(
            table(&inside),
            "random read of 4 KiB, in process, microseconds\n\
             depth      index  every layer asked\n\
             10          2.00               4.00\n\
             \n\
             peak memory of a process, KiB\n\
             depth        all      index\n\
             10             4          1\n"
        );
        assert!(read("{}").is_none());
    }
}
