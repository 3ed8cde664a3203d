//! A failure of a program: the one line the user reads and the exit code scripts read.

use std::{fmt, io};

use crate::called::usage_line;
use crate::exit;

/// Why a verb stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: Option<String>,
    /// A second line, where another program prints one.
    second: Option<String>,
    code: u8,
}

/// What a verb returns: the exit code, or the failure that stopped it.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with the ordinary exit code 1. `message` is one line without the program's
    /// name, which is put before it when it is printed.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), second: None, code: exit::FAILURE }
    }

    /// A wrong command line: names the help that would have prevented it.
    #[must_use]
    pub fn usage(program: &str, verb: &str, message: &str) -> Self {
        if let Some(second) = usage_line(verb) {
            return Self::new(message).with_second(second);
        }
        let space = if verb.is_empty() { "" } else { " " };
        Self::new(format!("{message} (try '{program}{space}{verb} --help')"))
    }

    /// The same failure with a second line below its message.
    #[must_use]
    pub fn with_second(mut self, line: impl Into<String>) -> Self {
        self.second = Some(line.into());
        self
    }

    /// The line below the message, if there is one.
    #[must_use]
    pub fn second(&self) -> Option<&str> {
        self.second.as_deref()
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What to print, or `None` when there is nobody left to read it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message().unwrap_or_default())
    }
}

impl std::error::Error for Failure {}

/// Only writes to the terminal or pipe use `?` on an `io::Error` in these programs. A reader
/// who went away (`qimg map x | head`) is no reason for a message.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let message = (error.kind() != io::ErrorKind::BrokenPipe)
            .then(|| format!("cannot write the output: {error}"));
        Self { message, second: None, code: exit::FAILURE }
    }
}
