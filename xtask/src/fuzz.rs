//! `fuzz`: the targets of `fuzz/` for some time each, from the committed corpus on. What is found
//! on the way is kept in `fuzz/grown`, what breaks in `fuzz/artifacts`; neither is committed.

use std::fs;
use std::process::Command;

use crate::command::{answers, root, run as start};
use crate::failure::{Failure, Outcome};

/// How long each target runs when nothing is said.
const SECONDS: &str = "60";
/// The compiler that the fuzzer needs.
const TOOLCHAIN: &str = "nightly";
/// Memory of one target: far more than any input may take.
const MEMORY_MIB: u32 = 4096;

/// The arguments, understood.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    seconds: String,
    /// All of them when none is named.
    targets: Vec<String>,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let request = parse(words, &targets()?)?;
    let quiet = |words: &[&str]| answers(cargo().args(words));
    if !quiet(&["--version"]) {
        return Err(Failure::Missing {
            what: format!("the {TOOLCHAIN} toolchain"),
            hint: format!("`rustup toolchain install {TOOLCHAIN}` brings it"),
        });
    }
    if !quiet(&["fuzz", "--version"]) {
        return Err(Failure::Missing {
            what: "cargo-fuzz".to_owned(),
            hint: "`cargo install --locked cargo-fuzz` brings it".to_owned(),
        });
    }
    for target in &request.targets {
        println!("== {target}: {} s", request.seconds);
        let grown = root().join("fuzz/grown").join(target);
        fs::create_dir_all(&grown).map_err(Failure::at(&grown))?;
        let mut fuzz = cargo();
        fuzz.args(["fuzz", "run", target]).arg(&grown).arg(format!("fuzz/corpus/{target}"));
        fuzz.arg("--").arg(format!("-max_total_time={}", request.seconds));
        fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        start(fuzz.args(["-timeout=60", "-print_final_stats=1"]))?;
    }
    Ok(())
}

/// `cargo` of the other toolchain, through rustup: this program's own one is a stable cargo.
fn cargo() -> Command {
    let mut cargo = Command::new("rustup");
    cargo.args(["run", TOOLCHAIN, "cargo"]).current_dir(root());
    // Set by the cargo that runs this; it would lead back to the stable compiler.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(name);
    }
    cargo
}

/// Names of the targets: each is a file.
fn targets() -> Outcome<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Failure::at(&folder))? {
        let path = entry.map_err(Failure::at(&folder))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// `--seconds N`, and names of targets.
fn parse(words: &[String], known: &[String]) -> Outcome<Request> {
    let mut request = Request { seconds: SECONDS.to_owned(), targets: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unknown = || Failure::UnknownArgument { task: "fuzz", argument: word.clone() };
        if word == "--seconds" {
            let seconds = words.next().filter(|seconds| seconds.parse::<u32>().is_ok());
            request.seconds.clone_from(seconds.ok_or_else(unknown)?);
        } else if known.contains(word) {
            request.targets.push(word.clone());
        } else {
            return Err(unknown());
        }
    }
    if request.targets.is_empty() {
        request.targets.extend_from_slice(known);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Outcome<Request> {
        let known = ["chain", "header"].map(str::to_owned);
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), &known)
    }

    fn request(seconds: &str, targets: &[&str]) -> Request {
        let targets = targets.iter().map(|&target| target.to_owned()).collect();
        Request { seconds: seconds.to_owned(), targets }
    }

    #[test]
    fn all_targets_or_some() {
        assert_eq!(parsed("").unwrap(), request("60", &["chain", "header"]));
        assert_eq!(parsed("header").unwrap(), request("60", &["header"]));
        assert_eq!(parsed("--seconds 5 header").unwrap(), request("5", &["header"]));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["--seconds", "--seconds many", "footer", "--release"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn targets_are_found() {
        let found = targets().unwrap();
        assert!(found.contains(&"header".to_owned()), "{found:?}");
    }
}
