//! `qimg`: from the command line to a verb and back to an exit code.

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;
use serde::Serialize;

use crate::args::usage::{self, Refusal};
use crate::args::{Cli, Verb, everywhere};
use crate::called::{advice, called_as};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::report::progress;
use crate::verb;

/// Verbs of qemu-img that this program will learn.
const LATER: [&str; 1] = ["bitmap"];

/// Runs the program with these arguments (the first is its name) and returns its exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    progress::listen();
    let outcome = everywhere::take(arguments).and_then(|arguments| {
        match Cli::try_parse_from(verb::resize::shield_sizes(&arguments)) {
            Ok(cli) => dispatch(cli.verb),
            Err(error) => refuse(&arguments, &error),
        }
    });
    finish("qimg", outcome)
}

/// Prints the failure, if that is what it is, and returns the exit code.
pub fn finish(program: &str, outcome: Outcome) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if let Some(message) = failure.message().filter(|_| everywhere::forms().json_errors) {
                let _ = writeln!(std::io::stderr(), "{}", json(program, message, &failure));
            } else if let Some(message) = failure.message() {
                // Nothing can be done when even standard error is gone.
                let _ =
                    writeln!(std::io::stderr(), "{}: {}", called_as(program), one_line(message));
                if let Some(second) = failure.second() {
                    let _ = writeln!(std::io::stderr(), "{}", one_line(second));
                }
            }
            failure.code()
        }
    }
}

/// A failure for programs. `second` is what stands below the message.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told<'a> {
    program: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<&'a str>,
    exit_code: u8,
}

fn json(program: &str, message: &str, failure: &Failure) -> String {
    let (second, exit_code) = (failure.second(), failure.code());
    let told = Told { program: called_as(program), message, second, exit_code };
    serde_json::to_string(&told).unwrap_or_default() // texts and a number always are JSON
}

/// File names may hold line ends and control characters, and images choose the names of their
/// backing files; a message is one line all the same, and tells a terminal nothing. The number
/// behind the host's words says nothing that they do not.
pub fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for char in message.chars() {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    while let Some(start) = line.find(NUMBER_START) {
        let digits = line[start + NUMBER_START.len()..].bytes().take_while(u8::is_ascii_digit);
        let end = start + NUMBER_START.len() + digits.count();
        if !line[end..].starts_with(')') {
            break;
        }
        line.replace_range(start..=end, "");
    }
    line
}

/// What stands before the error number in the host's words.
const NUMBER_START: &str = " (os error ";

fn refuse(arguments: &[OsString], error: &clap::Error) -> Outcome {
    let verb =
        arguments.get(1).and_then(|verb| verb.to_str()).filter(|verb| !verb.starts_with('-'));
    match usage::refusal("qimg", verb.unwrap_or_default(), error) {
        Refusal::Wrong(failure) => Err(failure),
        Refusal::Text(text) => {
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(exit::SUCCESS)
        }
    }
}

fn dispatch(verb: Verb) -> Outcome {
    match verb {
        Verb::Create(args) => verb::create::run(&args),
        Verb::Info(args) => verb::info::run(&args),
        Verb::Check(args) => verb::check::run(&args),
        Verb::Map(args) => verb::map::run(&args),
        Verb::Convert(args) => verb::convert::run(&args),
        Verb::Amend(args) => verb::amend::run(&args),
        Verb::Bench(args) => verb::bench::run(&args),
        Verb::Dd(args) => verb::dd::run(&args),
        Verb::Snapshot(args) => verb::snapshot::run(&args),
        Verb::Measure(args) => verb::measure::run(&args),
        Verb::Resize(args) => verb::resize::run(&args),
        Verb::Commit(args) => verb::commit::run(&args),
        Verb::Rebase(args) => verb::rebase::run(&args),
        Verb::Compare(args) => verb::compare::run(&args),
        Verb::Hash(args) => verb::hash::run(&args),
        Verb::Audit(args) => verb::audit::run(&args),
        Verb::Explain(args) => verb::explain::run(&args),
        Verb::Chain(args) => verb::chain::run(&args),
        Verb::View(args) => verb::view::run(&args),
        Verb::Demo(args) => verb::demo::run(&args),
        Verb::Other(words) => Err(unknown_verb(&words)),
    }
}

fn unknown_verb(words: &[OsString]) -> Failure {
    let name = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    if LATER.contains(&name.as_ref()) {
        let help = format!("; use 'qemu-img {name}'");
        return Failure::new(format!("{name} is not offered yet{}", advice(&help)));
    }
    Failure::usage("qimg", "", &format!("Command not found: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_without_error_numbers() {
        let text = "a (os error 2): b\nc (os error 13)";
        assert_eq!(one_line(text), "a: b\\nc");
        assert_eq!(one_line("x (os error y)"), "x (os error y)");
    }

    #[test]
    fn messages_tell_a_terminal_nothing() {
        assert_eq!(one_line("'\u{1b}[2J\u{9b}1m caf\u{e9}'"), "'\\u{1b}[2J\\u{9b}1m caf\u{e9}'");
    }
}
