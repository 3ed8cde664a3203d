//! `bench NAME`: our programs beside the reference on the same work, in one run. One table of
//! rows, like the tasks. A bench prints ratios and never fails because of a number.

mod chain;
mod create;
mod engine;
mod report;
mod run;

use std::path::PathBuf;

use crate::command::run_cargo;
use crate::environment;
use crate::failure::{Failure, Outcome};

use report::Row;

/// One row of the table.
struct Bench {
    name: &'static str,
    /// Measures the cases whose names contain one of the words (all of them without words), prints
    /// the table and returns the file with the numbers.
    run: fn(&[String]) -> Outcome<PathBuf>,
    sentence: &'static str,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "chain",
        run: chain::run,
        sentence: "chains of up to 400 layers: reads, opening, info and map, beside the real tools",
    },
    Bench {
        name: "create",
        run: |cases| programs("create", create::run, cases),
        sentence: "new images, preallocated and not, beside `qemu-img create`",
    },
    Bench {
        name: "engine",
        run: engine::run,
        sentence: "reads and writes in process, beside two crates, `qemu-img bench` and bare calls",
    },
];

/// A bench of our programs, which are built first.
fn programs(
    name: &str,
    run: fn(&[String]) -> Outcome<Vec<Row>>,
    cases: &[String],
) -> Outcome<PathBuf> {
    build_programs()?;
    let rows = run(cases)?;
    print!("{}", report::table(&rows));
    report::write(name, &rows)
}

fn build_programs() -> Outcome {
    run_cargo(&["build", "--quiet", "--release", "--package", "qimg-tools", "--bins"])
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let Some((name, cases)) = words.split_first() else {
        print!("{}", help());
        return Ok(());
    };
    let bench = BENCHES.iter().find(|bench| bench.name == name);
    let bench =
        bench.ok_or_else(|| Failure::UnknownArgument { task: "bench", argument: name.clone() })?;
    environment::ensure()?;
    println!("written to {}", (bench.run)(cases)?.display());
    Ok(())
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask bench NAME [CASE...]\n\n");
    for bench in BENCHES {
        text.push_str(&format!("  {:<10}{}\n", bench.name, bench.sentence));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_listed() {
        let help = help();
        for (index, bench) in BENCHES.iter().enumerate() {
            assert!(help.contains(bench.sentence), "{} is not in the help", bench.name);
            let same = BENCHES.iter().skip(index + 1).any(|other| other.name == bench.name);
            assert!(!same, "{} appears twice", bench.name);
        }
    }

    #[test]
    fn unknown_benches_are_refused() {
        let refused = run(&["frobnicate".to_owned()]).unwrap_err().to_string();
        assert!(refused.starts_with("bench: unknown argument `frobnicate`"), "{refused}");
    }
}
