//! `ci`: every other task in order, a line with the duration after each, tests last.

use std::time::Instant;

use crate::failure::Outcome;
use crate::{clippy, docs, environment, fixtures, fmt, layers, models, package, test, tidy};

/// Name as printed, and what runs.
type Stage = (&'static str, fn() -> Outcome);

/// The stages, cheap ones first. `test` ends in the summary of the test runner, and nothing
/// is printed after it.
const STAGES: &[Stage] = &[
    ("environment", environment::ensure),
    ("fmt", || fmt::run(&[])),
    ("tidy", || tidy::run(&[])),
    ("layers", || layers::run(&[])),
    ("clippy", || clippy::run(&[])),
    ("docs", || docs::run(&[])),
    ("fixtures --check", || fixtures::run(&["--check".to_owned()])),
    ("models", models::few),
    ("package", || package::run(&[])),
    ("test", || test::run(&[])),
];

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("ci", words)?;
    let last = STAGES.len() - 1;
    for (index, (name, stage)) in STAGES.iter().enumerate() {
        let start = Instant::now();
        println!("== {name}");
        stage()?;
        if index < last {
            println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_a_stage_or_part_of_one() {
        let stages: Vec<&str> = STAGES.iter().filter_map(|row| row.0.split(' ').next()).collect();
        for task in crate::TASKS {
            // `test` runs the doctests before the other tests; short histories and the corpus of
            // the fuzzer are among them.
            let inside = ["ci", "doctest", "soak", "crash", "fuzz"].contains(&task.name);
            // What a busy machine measures means nothing, and QEMU's own tests are not here.
            let never = ["bench", "iotests"].contains(&task.name);
            assert!(
                inside || never || stages.contains(&task.name),
                "{} never runs in ci",
                task.name
            );
        }
        assert_eq!(stages.last(), Some(&"test"), "the test summary must come last");
    }
}
