//! `crash`: power cuts over random histories, for as long as asked, or one history again.

use crate::command::{self, cargo};
use crate::environment;
use crate::failure::{Failure, Outcome};

/// What to run when nothing is said.
const SECONDS: &str = "60";
/// The test that does it.
const TEST: &str = "crash::run::as_long_as_asked";

/// The arguments, understood: environment variable of the test, and its value.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    variable: (&'static str, String),
    debug: bool,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let Request { variable: (name, value), debug } = parse(words)?;
    environment::ensure()?;
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "qimg", "--test", "crash"]);
    // Ten times the states in the same time.
    test.args((!debug).then_some("--release"));
    test.args(["--", "--exact", TEST, "--nocapture"]);
    command::run(test.env(name, value))
}

/// `--seconds N`, `--seed N`, `--release` (which is what happens anyway), `--debug`.
fn parse(words: &[String]) -> Outcome<Request> {
    let mut request =
        Request { variable: ("QIMG_CRASH_SECONDS", SECONDS.to_owned()), debug: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unknown =
            |word: &String| Failure::UnknownArgument { task: "crash", argument: word.clone() };
        let variable = match word.as_str() {
            "--release" | "--debug" => {
                request.debug = word == "--debug";
                continue;
            }
            "--seconds" => "QIMG_CRASH_SECONDS",
            "--seed" => "QIMG_CRASH_SEED",
            _ => return Err(unknown(word)),
        };
        let value = words.next().filter(|value| is_number(value)).ok_or_else(|| unknown(word))?;
        request.variable = (variable, value.clone());
    }
    Ok(request)
}

/// Decimal, or `0x` and hexadecimal digits.
fn is_number(text: &str) -> bool {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).is_ok(),
        None => text.parse::<u64>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Outcome<Request> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn request(name: &'static str, value: &str, debug: bool) -> Request {
        Request { variable: (name, value.to_owned()), debug }
    }

    #[test]
    fn time_or_a_seed() {
        assert_eq!(parsed("").unwrap(), request("QIMG_CRASH_SECONDS", "60", false));
        let five = request("QIMG_CRASH_SECONDS", "5", false);
        assert_eq!(parsed("--seconds 5 --release").unwrap(), five);
        let again = parsed("--debug --seed 0x1f").unwrap();
        assert_eq!(again, request("QIMG_CRASH_SEED", "0x1f", true));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["--seconds", "--seconds many", "--seed 0xg", "now"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
