//! Runs what a page says, in order, in a folder of its own, and tells what turned out otherwise.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use testkit::{Folder, built_program};

use crate::page::{Command, Page, Step};
use crate::wildcard::same;

/// What a shell said to a command.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Both streams, as a terminal shows them.
    pub(crate) lines: Vec<String>,
    pub(crate) code: Option<i32>,
}

/// A step that did not go as its page says.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    /// The command; none where a script failed.
    pub(crate) command: Option<&'a Command>,
    pub(crate) answer: Answer,
    /// For people.
    pub(crate) text: String,
}

/// Where the commands of one page run.
struct Place {
    programs: Folder,
    folder: Folder,
}

/// Runs a page from its beginning to its end, or to a script that fails.
pub(crate) fn differences(page: &Page) -> Vec<Difference<'_>> {
    let place = Place::new();
    let mut differences = Vec::new();
    for step in &page.steps {
        match step {
            Step::Script { line, text } => {
                let answer = place.shell(text);
                if answer.code != Some(0) {
                    let text = told(page, *line, text, &answer, "a script succeeds");
                    differences.push(Difference { command: None, answer, text });
                    break; // the rest of the page rests on it
                }
            }
            Step::Command(command) => {
                let answer = place.shell(&command.text);
                if answer.code != Some(command.code) || !same(&command.output, &answer.lines) {
                    let says = format!("exit code {}\n{}", command.code, command.output.join("\n"));
                    let text = told(page, command.line, &command.text, &answer, &says);
                    differences.push(Difference { command: Some(command), answer, text });
                }
            }
        }
    }
    differences
}

fn told(page: &Page, line: usize, command: &str, answer: &Answer, says: &str) -> String {
    let code =
        answer.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let (path, printed) = (page.path.display(), answer.lines.join("\n"));
    format!("{path}:{line}: {command}\n--- the page: {says}\n--- the shell: {code}\n{printed}\n")
}

impl Place {
    fn new() -> Self {
        let (programs, folder) = (Folder::new(), Folder::new());
        for name in ["qimg", "qimg-io"] {
            symlink(built_program(name), programs.path(name)).unwrap();
        }
        Self { programs, folder }
    }

    fn shell(&self, script: &str) -> Answer {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = std::process::Command::new("sh");
        // Both streams are one from the first line on, in the order in which they were written.
        shell.args(["-eu", "-c", &format!("exec 2>&1\n{script}")]);
        shell.env("PATH", format!("{}:{path}", self.programs.root().display()));
        shell.env("LC_ALL", "C").env("HOME", self.folder.root());
        shell.current_dir(self.folder.root()).stdin(Stdio::null());
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        Answer { lines: text.lines().map(str::to_owned).collect(), code: output.status.code() }
    }
}
