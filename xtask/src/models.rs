//! `models`: interleavings of the engine's threads, tried by checkers that decide who goes on, and then
//! by real threads. Each checker needs the engine built for it, in a folder of its own.

use std::process::Command;

use crate::command::{self, cargo, root};
use crate::failure::{Failure, Outcome};

/// One checker.
struct Checker {
    /// The `cfg` that the engine is built with, and the name of the folder.
    name: &'static str,
    /// Features of the engine that its models need.
    features: &'static [&'static str],
    /// More takes longer to build, and tries many times as many schedules in the same time.
    optimisation: &'static str,
}

/// Any interleaving, in memory that is sequentially consistent.
const SHUTTLE: Checker =
    Checker { name: "shuttle", features: &["--features", "deflate"], optimisation: "1" };
/// Any execution that the orderings allow, of very little.
const LOOM: Checker = Checker { name: "loom", features: &[], optimisation: "0" };

/// What runs: models have a module of their own among the unit tests.
const MODELS: &str = "models::";

/// The arguments, understood.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// For each model instead of a fixed number of schedules.
    seconds: Option<String>,
    /// Beginning of the names of the models to run, such as `whole::trap_96`; all of them without.
    filter: Option<String>,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let request = parse(words)?;
    let known = check(&SHUTTLE, &request)? + check(&LOOM, &request)?;
    if known == 0 {
        // A name with a mistake in it proves nothing.
        let argument = request.filter.unwrap_or_default();
        return Err(Failure::UnknownArgument { task: "models", argument });
    }
    match (&request.seconds, &request.filter) {
        (Some(seconds), None) => stress(seconds),
        _ => Ok(()),
    }
}

/// Real threads on one image, for as long; for a second they are among the tests of the engine.
fn stress(seconds: &str) -> Outcome {
    let mut test = cargo();
    test.args(["test", "--quiet", "--release", "--package", "cow-engine", "--test", "engine"]);
    command::run(test.arg("stress::").env("QIMG_STRESS_SECONDS", seconds))
}

/// A few hundred schedules of each model. The orderings that the other checker is for are a few lines
/// that rarely change, and it would take as long to build once more.
pub(crate) fn few() -> Outcome {
    check(&SHUTTLE, &Request::default()).map(drop)
}

/// Runs the models that are asked for; how many this checker has of them.
fn check(checker: &Checker, request: &Request) -> Outcome<usize> {
    let listed = command::output_of(tests(checker, request).arg("--list"))?;
    let known = listed.lines().filter(|line| line.ends_with(": test")).count();
    if known > 0 {
        command::run(&mut tests(checker, request))?;
    }
    Ok(known)
}

fn tests(checker: &Checker, request: &Request) -> Command {
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "cow-engine", "--lib", "--no-default-features"]);
    let filter = request.filter.as_deref().unwrap_or_default();
    test.args(checker.features).arg("--").arg(format!("{MODELS}{filter}"));
    if let Some(seconds) = &request.seconds {
        test.env("QIMG_MODEL_SECONDS", seconds);
    }
    test.env("RUSTFLAGS", format!("--cfg {}", checker.name));
    test.env("CARGO_TARGET_DIR", root().join("target").join(checker.name));
    test.env("CARGO_PROFILE_DEV_OPT_LEVEL", checker.optimisation);
    test.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    test
}

/// `--seconds N`, and the beginning of a name.
fn parse(words: &[String]) -> Outcome<Request> {
    let mut request = Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unknown =
            |word: &String| Failure::UnknownArgument { task: "models", argument: word.clone() };
        if word == "--seconds" {
            let seconds = words.next().ok_or_else(|| unknown(word))?;
            if seconds.parse::<u64>().is_err() {
                return Err(unknown(seconds));
            }
            request.seconds = Some(seconds.clone());
        } else if word.starts_with('-') || request.filter.is_some() {
            return Err(unknown(word));
        } else {
            request.filter = Some(word.clone());
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Outcome<Request> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn time_and_a_name() {
        assert_eq!(parsed("").unwrap(), Request::default());
        let request = parsed("--seconds 5 pins").unwrap();
        assert_eq!(request.seconds.as_deref(), Some("5"));
        assert_eq!(request.filter.as_deref(), Some("pins"));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["--seconds", "--seconds many", "--fast", "pins queue"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
