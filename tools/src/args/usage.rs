//! Wrong command lines, told in one line as the rest of the failures are.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// What to do with the parser's refusal.
#[derive(Debug)]
pub enum Refusal {
    /// Not a refusal: help or version was asked for. Print to standard output, succeed.
    Text(String),
    /// Wrong usage.
    Wrong(Failure),
}

/// Turns the parser's error into this program's words. `verb` is empty before one was given.
#[must_use]
pub fn refusal(program: &str, verb: &str, error: &clap::Error) -> Refusal {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refusal::Text(error.to_string()),
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Refusal::Wrong(Failure::usage(program, verb, "Not enough arguments"))
        }
        _ => Refusal::Wrong(Failure::usage(program, verb, &message(error))),
    }
}

fn message(error: &clap::Error) -> String {
    let argument = context(error, ContextKind::InvalidArg);
    match (error.kind(), argument) {
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with("--") => {
            format!("unrecognized option '{flag}'")
        }
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with('-') => {
            format!("invalid option -- '{}'", flag.trim_start_matches('-'))
        }
        (ErrorKind::UnknownArgument, Some(word)) => format!("Unexpected argument: {word}"),
        (
            ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues,
            Some(flag),
        ) => {
            format!("option '{flag}' requires an argument")
        }
        _ => first_line(error),
    }
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
