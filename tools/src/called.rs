//! The name this process was called by, and which program that makes it: linked or copied as
//! qemu-img, qemu-io or qemu-nbd, a program here is that one, whichever file it was built as.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `qimg`, or `qemu-img`: verbs on images.
    Image,
    /// `qimg-io`, or `qemu-io`: a command language for one image.
    Io,
    /// `qemu-nbd`: a server, which is not there yet.
    Nbd,
}

/// Names that stand for a program of QEMU.
const STAND_INS: [(&str, Program); 3] =
    [("qemu-img", Program::Image), ("qemu-io", Program::Io), ("qemu-nbd", Program::Nbd)];

/// The name of the program whose place this process takes, and the path it was called by.
static STANDS_FOR: OnceLock<(&'static str, String)> = OnceLock::new();

impl Program {
    /// Its own name.
    #[must_use]
    pub fn own_name(self) -> &'static str {
        match self {
            Self::Image => "qimg",
            Self::Io => "qimg-io",
            Self::Nbd => "qimg-nbd",
        }
    }
}

/// Decides by the first word of the command line what this process is; `built_as` is what its file
/// was built as. Later calls change nothing.
pub fn settle(first: Option<&OsStr>, built_as: Program) -> Program {
    match stand_in(first) {
        Some((name, program)) => {
            let typed = first.map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
            let _ = STANDS_FOR.set((name, typed)); // the first call counts
            program
        }
        None => built_as,
    }
}

fn stand_in(first: Option<&OsStr>) -> Option<(&'static str, Program)> {
    let name = Path::new(first?).file_name()?;
    STAND_INS.into_iter().find(|(known, _)| name == *known)
}

/// The name for messages: that of the program whose place this process takes, else `own`.
#[must_use]
pub fn called_as(own: &str) -> &str {
    STANDS_FOR.get().map_or(own, |(name, _)| *name)
}

/// Whether this process takes the place of another program, so that its words must be those.
#[must_use]
pub fn stands_in() -> bool {
    STANDS_FOR.get().is_some()
}

/// What that program prints below a wrong command line; `None` in a process of its own name.
#[must_use]
pub fn usage_line(verb: &str) -> Option<String> {
    let (name, typed) = STANDS_FOR.get()?;
    let space = if verb.is_empty() { "" } else { " " };
    let more = if *name == "qemu-img" { "info" } else { "information." };
    Some(format!("Try '{typed}{space}{verb} --help' for more {more}"))
}

/// Advice that the other program does not give; nothing in its place.
#[must_use]
pub fn advice(text: &str) -> &str {
    if stands_in() { "" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_not_the_folder() {
        let of = |name: &str| stand_in(Some(OsStr::new(name))).map(|(_, program)| program);
        assert_eq!(of("qemu-img"), Some(Program::Image));
        assert_eq!(of("/usr/bin/qemu-io"), Some(Program::Io));
        assert_eq!(of("./qemu-nbd"), Some(Program::Nbd));
        for other in ["qimg", "qemu-img/qimg", "qemu-img.old", "xqemu-img", "", "/"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(stand_in(None), None);
    }

    #[test]
    fn a_process_of_no_other_name_keeps_its_own() {
        assert_eq!(settle(Some(OsStr::new("qimg")), Program::Image), Program::Image);
        assert_eq!(called_as("qimg-io"), "qimg-io");
        assert_eq!(advice(" (-U)"), " (-U)");
    }
}
