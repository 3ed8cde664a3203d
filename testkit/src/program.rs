//! Programs run to their end: what they said, and where our own ones are built.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

/// What a program answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended the program.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Hands the output on if the exit code is 0.
    ///
    /// # Panics
    /// Any other exit code; the text has the command line and everything that was said.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "mostly called for its panic alone")]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Hands the output on if the exit code is `code`.
    ///
    /// # Panics
    /// Any other exit code.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "mostly called for its panic alone")]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{}", self.report());
        self
    }

    /// Hands the output on if the program failed and `text` is part of standard error.
    ///
    /// # Panics
    /// The program succeeded, or said something else.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "mostly called for its panic alone")]
    pub fn fails_with(self, text: &str) -> Self {
        let failed = self.code != Some(0) && self.stderr.contains(text);
        assert!(failed, "expected a failure with {text:?}\n{}", self.report());
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// It is not JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}\n{}", self.report()))
    }

    fn report(&self) -> String {
        let mut text = format!("command: {}\nexit code: {:?}", self.command, self.code);
        for (name, said) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let _ = write!(text, "\n--- {name}\n{said}");
        }
        text
    }
}

/// Runs `program` with `args` to its end, with nothing on standard input.
///
/// # Panics
/// The program cannot be started.
pub fn run<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(std::process::Stdio::null());
    run_command(command, "")
}

/// Like [`run`], with `hint` in the panic when the program is not there.
pub(crate) fn run_command(mut command: Command, hint: &str) -> Output {
    // The texts of tests are those of the C locale.
    command.env("LC_ALL", "C");
    let line = format!("{command:?}");
    let output =
        command.output().unwrap_or_else(|error| panic!("cannot run {line}: {error}{hint}"));
    Output {
        command: line,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Path of one of our own programs (`qimg`, `qimg-io`, ...) in the build that the running test
/// belongs to. Where it is missing, it is built, once. A program that is there is taken as it
/// is: run tests of the whole workspace, or build first, after changing it.
///
/// # Panics
/// The program cannot be built, or the test does not lie in a build folder.
#[must_use]
pub fn built_program(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let program = profile.join(name);
    if !program.exists() {
        BUILD.call_once(|| build(profile));
    }
    assert!(program.exists(), "the build of qimg-tools left no {}", program.display());
    program
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "qimg-tools", "--bins"]);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    // Another target folder than the default one still gets the program where it is looked for.
    command.arg("--target-dir").arg(profile.parent().expect("a profile lies in a target folder"));
    if profile.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    run_command(command, "").success();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Output {
        run(Path::new("sh"), ["-c", script])
    }

    #[test]
    fn outputs_are_kept_apart() {
        let output = shell("echo out; echo err >&2; exit 3").exits(3);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
        output.fails_with("err");
    }

    #[test]
    #[should_panic(expected = "expected exit code 0\ncommand: ")]
    fn an_unexpected_failure_shows_the_command() {
        shell("exit 1").success();
    }

    #[test]
    fn our_programs_are_found_or_built() {
        let program = built_program("qimg");
        let test = std::env::current_exe().unwrap();
        assert_eq!(program.parent(), test.parent().unwrap().parent());
        assert!(program.is_file());
    }

    #[test]
    fn json_is_read() {
        assert_eq!(shell("echo '{\"a\": [1]}'").json()["a"][0], 1);
    }
}
