//! `iotests`: QEMU's own tests, run against our programs by a runner that lies elsewhere. Neither the
//! suite nor the runner is part of the project: their licence is another one.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, build_folder, cargo};
use crate::failure::{Failure, Outcome};

/// Where the runner is, when the command line does not say.
const VARIABLE: &str = "QIMG_IOTESTS_RUNNER";

/// The arguments, understood.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    runner: Option<PathBuf>,
    /// Words that the runner understands, passed on as they are.
    passed: Vec<String>,
}

pub(crate) fn run(words: &[String]) -> Outcome {
    let request = parse(words)?;
    let runner = request.runner.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let runner = existing(runner.as_deref())?;
    command::run(cargo().args(["build", "--quiet", "--package", "qimg-tools", "--bins"]))?;
    let folder = build_folder()?;
    let mut suite = Command::new(runner);
    suite.arg("--img").arg(folder.join("qimg")).arg("--io").arg(folder.join("qimg-io"));
    command::run(suite.args(request.passed))
}

/// The runner as it is found from here, wherever the tests then run.
fn existing(runner: Option<&Path>) -> Outcome<PathBuf> {
    let what = match runner {
        None => "the runner of QEMU's own tests".to_owned(),
        Some(path) => format!("the runner of QEMU's own tests, {}", path.display()),
    };
    let found = runner.map(Path::canonicalize).and_then(Result::ok);
    found.filter(|path| path.is_file()).ok_or_else(|| Failure::Missing {
        what,
        hint: format!(
            "`--runner PATH` or {VARIABLE} names a program that takes --img PROGRAM, --io PROGRAM and \
             --tests LIST, and runs the suite in QEMU's source with them"
        ),
    })
}

/// `--runner PATH`; everything else is the runner's.
fn parse(words: &[String]) -> Outcome<Request> {
    let mut request = Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--runner" {
            let unknown = || Failure::UnknownArgument { task: "iotests", argument: word.clone() };
            request.runner = Some(words.next().ok_or_else(unknown)?.into());
        } else {
            request.passed.push(word.clone());
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
    fn everything_but_the_runner_is_passed_on() {
        let request = parsed("--tests 001,003 --runner ./run.sh --jobs 2").unwrap();
        assert_eq!(request.runner, Some("./run.sh".into()));
        assert_eq!(request.passed, ["--tests", "001,003", "--jobs", "2"]);
        assert!(parsed("--runner").is_err());
    }

    #[test]
    fn a_missing_runner_is_explained() {
        for runner in [None, Some(Path::new("no/such/runner"))] {
            let text = existing(runner).unwrap_err().to_string();
            assert!(text.starts_with("missing: the runner of QEMU's own tests"), "{text}");
            assert!(text.contains("--runner PATH"), "{text}");
        }
    }
}
