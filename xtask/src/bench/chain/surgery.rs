//! Operations that move data: ours beside the real ones, each on fresh copies of the same files.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::report::Row;
use super::super::run::{self, Run};
use crate::command;
use crate::failure::{Failure, Outcome};

/// Runs of each program.
const TIMES: usize = 9;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// An overlay with 320 MiB into its raw base.
    CommitIntoRaw,
    /// The same into a qcow2 base.
    CommitIntoQcow2,
    /// Everything up into the overlay.
    Flatten,
    /// Everything into a new image.
    Convert,
    /// Onto a copy of the base: all is compared, nothing differs.
    RebaseOntoEqual,
    /// Onto a base that shows other bytes in a quarter of its data.
    RebaseOntoOther,
}

const DEEDS: [(Deed, &str); 6] = [
    (Deed::CommitIntoRaw, "commit-320m-into-raw"),
    (Deed::CommitIntoQcow2, "commit-320m-into-qcow2"),
    (Deed::Flatten, "flatten-256m-in-place"),
    (Deed::Convert, "flatten-576m-into-new-image"),
    (Deed::RebaseOntoEqual, "rebase-onto-equal-base"),
    (Deed::RebaseOntoOther, "rebase-onto-other-base"),
];

/// The row of a deed.
pub(super) fn row(rows: &[Row], deed: Deed) -> Option<&Row> {
    let (_, name) = DEEDS.iter().find(|(of, _)| *of == deed)?;
    rows.iter().find(|row| row.case == *name)
}

/// The files, and who works on them.
struct Media {
    folder: PathBuf,
}

/// All rows, on images made in `folder`.
pub(super) fn measure(folder: &Path) -> Outcome<Vec<Row>> {
    let media = Media { folder: folder.join("surgery") };
    std::fs::create_dir_all(&media.folder).map_err(Failure::at(&media.folder))?;
    media.make()?;
    let ours = run::ours("qimg")?;
    let mut rows = Vec::new();
    for (deed, name) in DEEDS {
        eprintln!("{name}: {TIMES} runs of each");
        let (reference, ours) = run::in_turns(
            TIMES,
            || media.one(Path::new("qemu-img"), deed),
            || media.one(&ours, deed),
        )?;
        rows.push(Row { case: name.to_owned(), reference, ours });
    }
    Ok(rows)
}

impl Media {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn img(&self, words: &[&str]) -> Outcome {
        command::run(Command::new("qemu-img").args(words).current_dir(&self.folder))
    }

    fn io(&self, format: &str, image: &str, commands: &[&str]) -> Outcome {
        let mut io = Command::new("qemu-io");
        io.args(["-f", format]).args(commands.iter().flat_map(|command| ["-c", command]));
        io.arg(image).current_dir(&self.folder).stdout(std::process::Stdio::null());
        command::run(&mut io)
    }

    fn make(&self) -> Outcome {
        self.img(&["create", "-q", "-f", "raw", "base.raw", "1G"])?;
        self.io("raw", "base.raw", &["write -P 1 0 256M", "write -P 2 512M 64M"])?;
        self.img(&["convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2"])?;
        std::fs::copy(self.path("base.qcow2"), self.path("other.qcow2"))
            .map_err(Failure::at(&self.path("other.qcow2")))?;
        self.io("qcow2", "other.qcow2", &["write -P 5 32M 64M"])?;
        for (base, format, overlay) in
            [("base.raw", "raw", "over-raw.qcow2"), ("base.qcow2", "qcow2", "over-qcow2.qcow2")]
        {
            self.img(&["create", "-q", "-f", "qcow2", "-b", base, "-F", format, overlay])?;
            self.io("qcow2", overlay, &["write -P 3 128M 256M", "write -P 4 700M 64M"])?;
        }
        Ok(())
    }

    /// Makes fresh copies, and does the deed once.
    fn one(&self, program: &Path, deed: Deed) -> Outcome<Run> {
        let raw = deed == Deed::CommitIntoRaw;
        let (base, overlay) = match raw {
            true => ("base.raw", "over-raw.qcow2"),
            false => ("base.qcow2", "over-qcow2.qcow2"),
        };
        let work = self.path("work");
        let _ = std::fs::remove_dir_all(&work); // nothing is there the first time
        std::fs::create_dir_all(&work).map_err(Failure::at(&work))?;
        for file in [base, overlay] {
            sparse_copy(&self.path(file), &work.join(file))?;
        }
        let new = match deed {
            Deed::RebaseOntoEqual => Some("base.qcow2"),
            Deed::RebaseOntoOther => Some("other.qcow2"),
            _ => None,
        };
        if let Some(new) = new {
            sparse_copy(&self.path(new), &work.join("new.qcow2"))?;
        }
        let mut command = Command::new(program);
        command.args(words(program, deed)).current_dir(&work);
        run::measure(&mut command)
    }
}

/// The command line; the real tool has another verb for flattening in place.
fn words(program: &Path, deed: Deed) -> Vec<&'static str> {
    let reference = program == Path::new("qemu-img");
    match deed {
        Deed::CommitIntoRaw => vec!["commit", "-q", "-f", "qcow2", "over-raw.qcow2"],
        Deed::CommitIntoQcow2 => vec!["commit", "-q", "-f", "qcow2", "over-qcow2.qcow2"],
        Deed::Flatten if reference => {
            vec!["rebase", "-q", "-f", "qcow2", "-b", "", "over-qcow2.qcow2"]
        }
        Deed::Flatten => vec!["chain", "flatten", "-q", "-f", "qcow2", "over-qcow2.qcow2"],
        Deed::Convert => {
            vec!["convert", "-f", "qcow2", "-O", "qcow2", "over-qcow2.qcow2", "new.qcow2"]
        }
        Deed::RebaseOntoEqual | Deed::RebaseOntoOther => {
            vec![
                "rebase",
                "-q",
                "-f",
                "qcow2",
                "-b",
                "new.qcow2",
                "-F",
                "qcow2",
                "over-qcow2.qcow2",
            ]
        }
    }
}

/// Copies with holes.
fn sparse_copy(from: &Path, to: &Path) -> Outcome {
    command::run(Command::new("cp").arg("--sparse=always").arg(from).arg(to))
}
