//! Development tasks: `cargo xtask NAME`. One table of rows: name, function, sentence.

#![forbid(unsafe_code)]

mod bench;
mod ci;
mod clippy;
mod command;
mod crash;
mod dist;
mod docs;
mod doctest;
mod environment;
mod failure;
mod fixtures;
mod fmt;
mod fuzz;
mod histories;
mod iotests;
mod layers;
mod models;
mod package;
mod soak;
mod test;
mod tidy;
mod view_shot;

use std::process::ExitCode;

use failure::{Failure, Outcome};

/// One row of the table.
struct Task {
    name: &'static str,
    run: fn(&[String]) -> Outcome,
    sentence: &'static str,
}

const TASKS: &[Task] = &[
    Task {
        name: "soak",
        run: soak::run,
        sentence: "random histories: `--seconds N`, or `--seed N` for one again; `--release`",
    },
    Task {
        name: "crash",
        run: crash::run,
        sentence: "power cuts over random histories: `--seconds N`, or `--seed N` for one again",
    },
    Task {
        name: "fuzz",
        run: fuzz::run,
        sentence: "look for inputs that break a promise: `--seconds N`, `TARGET...`",
    },
    Task {
        name: "bench",
        run: bench::run,
        sentence: "ours beside the reference: `NAME [CASE...]`; alone it lists the benches",
    },
    Task {
        name: "iotests",
        run: iotests::run,
        sentence: "QEMU's own tests on our programs: `--runner PATH`, then its words",
    },
    Task {
        name: "view-shot",
        run: view_shot::run,
        sentence: "a page of `qimg view` in a browser: sound, and drawn for the README",
    },
    Task {
        name: "dist",
        run: dist::run_task,
        sentence: "what users get, made and tried: programs, static ones, pages, a Debian package",
    },
    Task { name: "ci", run: ci::run, sentence: "everything below, in order; tests last" },
    Task { name: "fmt", run: fmt::run, sentence: "rustfmt agrees with every file" },
    Task { name: "clippy", run: clippy::run, sentence: "clippy on all targets and features" },
    Task { name: "docs", run: docs::run, sentence: "the documentation builds without a warning" },
    Task { name: "layers", run: layers::run, sentence: "arrows between crates, tree budgets" },
    Task { name: "tidy", run: tidy::run, sentence: "rules of the house that no lint knows" },
    Task {
        name: "fixtures",
        run: fixtures::run,
        sentence: "make every committed image again; `--check` compares instead",
    },
    Task {
        name: "models",
        run: models::run,
        sentence: "interleavings of threads: `--seconds N` for each model, `NAME`",
    },
    Task { name: "package", run: package::run, sentence: "each published crate packs and builds" },
    Task { name: "doctest", run: doctest::run, sentence: "the examples in the documentation" },
    Task { name: "test", run: test::run, sentence: "the real tools, then every test" },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[String]) -> Outcome {
    let Some((name, rest)) = words.split_first() else {
        print!("{}", help());
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return Ok(());
    }
    let task = TASKS.iter().find(|task| task.name == name);
    (task.ok_or_else(|| Failure::UnknownTask { name: name.clone() })?.run)(rest)
}

fn help() -> String {
    let mut text = String::from("usage: cargo xtask NAME\n\n");
    for task in TASKS {
        text.push_str(&format!("  {:<10}{}\n", task.name, task.sentence));
    }
    text
}

/// For tasks without arguments: any word is a mistake, not noise.
fn no_arguments(task: &'static str, words: &[String]) -> Outcome {
    match words.first() {
        None => Ok(()),
        Some(argument) => Err(Failure::UnknownArgument { task, argument: argument.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_listed() {
        let help = help();
        for (index, task) in TASKS.iter().enumerate() {
            assert!(help.contains(task.sentence), "{} is not in the help", task.name);
            let same = TASKS.iter().skip(index + 1).any(|other| other.name == task.name);
            assert!(!same, "{} appears twice", task.name);
        }
    }

    #[test]
    fn unknown_names_and_arguments_are_refused() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let name = dispatch(&words("frobnicate")).unwrap_err().to_string();
        assert_eq!(name, "no task is called `frobnicate`; `cargo xtask help` lists them");

        let argument = dispatch(&words("fmt --fix")).unwrap_err().to_string();
        assert_eq!(argument, "fmt: unknown argument `--fix`; `cargo xtask help` lists them");
    }
}
