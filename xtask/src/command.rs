//! Child processes: started in the root of the repository, judged by their exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome};

/// The root of the repository: the folder above this package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// Where this program was built, and where cargo builds its neighbours.
pub(crate) fn build_folder() -> Outcome<PathBuf> {
    let program = std::env::current_exe()
        .map_err(|source| Failure::Start { program: "xtask".to_owned(), source })?;
    Ok(program.parent().unwrap_or(&program).to_path_buf())
}

/// The cargo that runs this task, so that a toolchain override holds for its children too.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// `cargo` with arguments, output passed through.
pub(crate) fn run_cargo(args: &[&str]) -> Outcome {
    run(cargo().args(args))
}

/// Runs to the end, output passed through. Any exit code but 0 is a failure.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|source| not_started(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Command { line: line_of(command), code: status.code() })
}

/// Runs to the end and returns standard output; errors still reach the terminal.
pub(crate) fn output_of(command: &mut Command) -> Outcome<String> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|source| not_started(command, source))?;
    if !output.status.success() {
        return Err(Failure::Command { line: line_of(command), code: output.status.code() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`output_of`], for programs that talk to themselves: their errors are not shown.
pub(crate) fn quiet_output_of(command: &mut Command) -> Outcome<String> {
    let output =
        command.stderr(Stdio::null()).output().map_err(|source| not_started(command, source))?;
    if !output.status.success() {
        return Err(Failure::Command { line: line_of(command), code: output.status.code() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program can be started and ends well with these arguments; silent.
pub(crate) fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as a person would type it, for messages.
pub(crate) fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for word in command.get_args() {
        line.push(' ');
        line.push_str(&word.to_string_lossy());
    }
    line
}

fn not_started(command: &Command, source: std::io::Error) -> Failure {
    Failure::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_missing_programs_are_told_apart() {
        let code = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(code.to_string(), "`sh -c exit 3` ended with exit code 3; its output is above");

        let absent = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(absent.to_string().starts_with("cannot start `no-such-program-here`"), "{absent}");
    }

    #[test]
    fn root_holds_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.starts_with("[workspace]"), "the root is not the workspace");
    }
}
