//! The commands of `qimg-io`: one table, one file per kind of command.

pub mod allocation;
pub mod control;
pub mod crash;
pub mod discard;
pub mod open;
pub mod read;
pub mod size;
pub mod truncate;
pub mod unsupported;
pub mod write;

use std::io;

use super::getopt::{self, FlagError, Parsed};
use super::session::Session;

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its short name, or the name again.
    pub short: &'static str,
    /// Fewest arguments, flags included.
    pub fewest: usize,
    /// Most arguments, flags included; `None` is any number.
    pub most: Option<usize>,
    /// The arguments as help shows them.
    pub arguments: &'static str,
    /// One line that says what it does.
    pub summary: &'static str,
    /// More about it; empty when the line says it all.
    pub details: &'static str,
    /// Whether an image must be open.
    pub needs_image: bool,
    /// What it does.
    pub run: fn(&mut Session<'_>, &Invocation<'_>) -> Result<(), Problem>,
}

/// One use of a command.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The command.
    pub command: &'static Command,
    /// The name it was called by.
    pub name: &'a str,
    /// Everything after the name.
    pub arguments: &'a [String],
}

/// Why a command failed.
#[derive(Debug)]
pub enum Problem {
    /// Wrong arguments: the usage line is printed.
    Usage,
    /// A wrong flag: named, then the usage line is printed.
    Flag(FlagError),
    /// A message for standard output, where qemu-io prints it.
    Told(String),
    /// A message for standard error.
    Complained(String),
    /// The message is printed already.
    Silent,
    /// The output cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Invocation<'_> {
    /// Takes the flags apart.
    ///
    /// # Errors
    /// A flag that is not in `allowed`.
    pub fn parse(&self, allowed: &str) -> Result<Parsed, Problem> {
        getopt::parse(self.arguments, allowed).map_err(Problem::Flag)
    }
}

impl Command {
    /// The usage line.
    #[must_use]
    pub fn usage(&self, name: &str) -> String {
        let space = if self.arguments.trim().is_empty() { "" } else { " " };
        format!("{name}{space}{} -- {}", self.arguments, self.summary)
    }

    /// What is wrong with this number of arguments, if anything.
    #[must_use]
    pub fn count_problem(&self, name: &str, count: usize) -> Option<String> {
        let most = self.most.unwrap_or(usize::MAX);
        if (self.fewest..=most).contains(&count) {
            return None;
        }
        let expected = match self.most {
            None => format!("at least {}", self.fewest),
            Some(most) if most == self.fewest => most.to_string(),
            Some(most) => format!("between {} and {most}", self.fewest),
        };
        Some(format!("bad argument count {count} to {name}, expected {expected} arguments"))
    }
}

/// All commands, by name.
pub const COMMANDS: &[Command] = &[
    crash::ABORT,
    control::AIO_FLUSH,
    read::AIO_READ,
    write::AIO_WRITE,
    allocation::ALLOC,
    unsupported::BREAK,
    open::CLOSE,
    discard::DISCARD,
    control::FLUSH,
    control::HELP,
    size::INFO,
    size::LENGTH,
    allocation::MAP,
    open::OPEN,
    control::QUIT,
    read::READ,
    read::READV,
    unsupported::REMOVE_BREAK,
    open::REOPEN,
    unsupported::RESUME,
    crash::SIGRAISE,
    control::SLEEP,
    truncate::TRUNCATE,
    unsupported::WAIT_BREAK,
    write::WRITE,
    write::WRITEV,
    unsupported::ZONE_APPEND,
    unsupported::ZONE_CLOSE,
    unsupported::ZONE_FINISH,
    unsupported::ZONE_OPEN,
    unsupported::ZONE_REPORT,
    unsupported::ZONE_RESET,
];

/// Finds a command by either of its names.
#[must_use]
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name || command.short == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_are_unique() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let mut names: Vec<_> = COMMANDS.iter().map(|command| command.short).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
    }

    #[test]
    fn counts_are_told_as_qemu_io_tells_them() {
        let problem = |name: &str, count| find(name).unwrap().count_problem(name, count);
        assert_eq!(
            problem("read", 0).unwrap(),
            "bad argument count 0 to read, expected at least 2 arguments"
        );
        assert_eq!(
            problem("alloc", 3).unwrap(),
            "bad argument count 3 to alloc, expected between 1 and 2 arguments"
        );
        assert_eq!(problem("map", 1).unwrap(), "bad argument count 1 to map, expected 0 arguments");
        assert_eq!(problem("r", 2), None);
    }
}
