//! `soak`: random histories of images, for as long as asked, or one of them again.

use crate::command::{self, cargo};
use crate::environment;
use crate::failure::{Failure, Outcome};

/// What to run when nothing is said.
const SECONDS: &str = "60";
/// The test that does it.
const TEST: &str = "soak::run::as_long_as_asked";

/// The arguments, understood.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// Environment variable of the test, and its value.
    variable: (&'static str, String),
    release: bool,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let Request { variable: (name, value), release } = parse(words)?;
    environment::ensure()?;
    let profile: &[&str] = if release { &["--release"] } else { &[] };
    command::run(
        cargo().args(["build", "--quiet", "--package", "qimg-tools", "--bins"]).args(profile),
    )?;
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "qimg", "--test", "soak"]).args(profile);
    test.args(["--", "--exact", TEST, "--nocapture"]);
    command::run(test.env(name, value))
}

/// `--seconds N`, `--seed N`, `--release`.
fn parse(words: &[String]) -> Outcome<Request> {
    let mut request =
        Request { variable: ("QIMG_SOAK_SECONDS", SECONDS.to_owned()), release: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let unknown =
            |word: &String| Failure::UnknownArgument { task: "soak", argument: word.clone() };
        let variable = match word.as_str() {
            "--release" => {
                request.release = true;
                continue;
            }
            "--seconds" => "QIMG_SOAK_SECONDS",
            "--seed" => "QIMG_SOAK_SEED",
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

    fn request(name: &'static str, value: &str, release: bool) -> Request {
        Request { variable: (name, value.to_owned()), release }
    }

    #[test]
    fn time_or_a_seed() {
        assert_eq!(parsed("").unwrap(), request("QIMG_SOAK_SECONDS", "60", false));
        assert_eq!(parsed("--seconds 5").unwrap(), request("QIMG_SOAK_SECONDS", "5", false));
        let again = parsed("--release --seed 0x1f").unwrap();
        assert_eq!(again, request("QIMG_SOAK_SEED", "0x1f", true));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["--seconds", "--seconds many", "--seed 0xg", "now"] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
