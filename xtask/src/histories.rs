//! Random histories that a test plays for as long as asked, or one of them again by its seed.

use crate::command::{self, cargo};
use crate::failure::{Failure, Outcome};

/// How long when nothing is said.
const SECONDS: &str = "60";

/// Which test plays them, and what it listens to.
#[derive(Debug)]
pub(crate) struct Histories {
    /// The task, for messages.
    pub(crate) task: &'static str,
    /// The file of the test in the facade.
    pub(crate) test: &'static str,
    /// Its environment variables: how many seconds, and which seed.
    pub(crate) seconds: &'static str,
    pub(crate) seed: &'static str,
    /// Whether it is built with optimisations unless told otherwise.
    pub(crate) release: bool,
}

/// The arguments, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Environment variable of the test, and its value.
    variable: (&'static str, String),
    pub(crate) release: bool,
}

impl Histories {
    /// `--seconds N`, `--seed N`, `--release`, `--debug`.
    pub(crate) fn parse(&self, words: &[String]) -> Outcome<Request> {
        let mut request =
            Request { variable: (self.seconds, SECONDS.to_owned()), release: self.release };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let unknown = || Failure::UnknownArgument { task: self.task, argument: word.clone() };
            let variable = match word.as_str() {
                "--release" | "--debug" => {
                    request.release = word == "--release";
                    continue;
                }
                "--seconds" => self.seconds,
                "--seed" => self.seed,
                _ => return Err(unknown()),
            };
            let value = words.next().filter(|value| is_number(value)).ok_or_else(unknown)?;
            request.variable = (variable, value.clone());
        }
        Ok(request)
    }

    /// Runs the test, with its output.
    pub(crate) fn run(&self, request: &Request) -> Outcome {
        let mut test = cargo();
        test.args(["test", "--quiet", "--package", "qimg", "--test", self.test]);
        test.args(request.release.then_some("--release"));
        let case = format!("{}::run::as_long_as_asked", self.test);
        test.args(["--", "--exact", &case, "--nocapture"]);
        let (name, value) = &request.variable;
        command::run(test.env(name, value))
    }
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

    const TRIED: Histories =
        Histories { task: "tried", test: "tried", seconds: "SECONDS", seed: "SEED", release: true };

    fn parsed(line: &str) -> Outcome<Request> {
        TRIED.parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn request(name: &'static str, value: &str, release: bool) -> Request {
        Request { variable: (name, value.to_owned()), release }
    }

    #[test]
    fn time_or_a_seed() {
        assert_eq!(parsed("").unwrap(), request("SECONDS", "60", true));
        assert_eq!(parsed("--seconds 5 --release").unwrap(), request("SECONDS", "5", true));
        assert_eq!(parsed("--debug --seed 0x1f").unwrap(), request("SEED", "0x1f", false));
    }

    #[test]
    fn anything_else_is_refused() {
        for line in ["--seconds", "--seconds many", "--seed 0xg", "now"] {
            let refused = parsed(line).unwrap_err().to_string();
            assert!(refused.starts_with("tried: unknown argument"), "{line}: {refused}");
        }
    }
}
