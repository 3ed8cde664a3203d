//! `Qemu`: the real tools, run for comparison.

use std::ffi::OsStr;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::program::{Output, built_program, run_command};

/// What a missing tool means for the reader of the panic.
const HINT: &str = "; the tests need the real tools: install the Debian package qemu-utils";

/// Runners for qemu-img and qemu-io. Every one panics when the tool is not installed.
#[derive(Clone, Copy, Debug)]
pub struct Qemu;

impl Qemu {
    /// Runs `qemu-img` with `args` to its end.
    ///
    /// # Panics
    /// The tool is not installed.
    pub fn img<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
        Self::run("qemu-img", args)
    }

    /// Runs `qemu-io` with `args` to its end. It exits 0 even if a command failed, unless it
    /// could not open the image; failures of commands are words on standard output or error.
    ///
    /// # Panics
    /// The tool is not installed.
    pub fn io<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
        Self::run("qemu-io", args)
    }

    fn run<A: AsRef<OsStr>>(tool: &str, args: impl IntoIterator<Item = A>) -> Output {
        let mut command = Command::new(tool);
        command.args(args).stdin(Stdio::null());
        run_command(command, HINT)
    }

    /// Asserts that `qemu-img check` finds neither errors nor leaks in a qcow2 image.
    ///
    /// # Panics
    /// It finds any, or cannot open the image.
    #[track_caller]
    pub fn check(path: &Path) {
        let args = [OsStr::new("check"), "-f".as_ref(), "qcow2".as_ref(), path.as_ref()];
        let output = Self::img(args).success();
        assert!(
            output.stdout.contains("No errors were found on the image."),
            "the image is not clean: {output:?}"
        );
    }

    /// The array that `qemu-img map --output=json` prints.
    ///
    /// # Panics
    /// The command fails.
    #[track_caller]
    #[must_use]
    pub fn map_json(format: &str, path: &Path) -> Value {
        Self::json("map", format, path)
    }

    /// The object that `qemu-img info --output=json` prints.
    ///
    /// # Panics
    /// The command fails.
    #[track_caller]
    #[must_use]
    pub fn info_json(format: &str, path: &Path) -> Value {
        Self::json("info", format, path)
    }

    #[track_caller]
    fn json(verb: &str, format: &str, path: &Path) -> Value {
        let words = [verb, "--output=json", "-f", format].map(OsStr::new);
        Self::img(words.into_iter().chain([path.as_os_str()])).success().json()
    }

    /// Asserts that two images show a guest the same bytes (`qemu-img compare`).
    ///
    /// # Panics
    /// They differ, or cannot be opened.
    #[track_caller]
    pub fn assert_same(first: (&str, &Path), second: (&str, &Path)) {
        let words = ["compare", "-f", first.0, "-F", second.0].map(OsStr::new);
        Self::img(words.into_iter().chain([first.1.as_os_str(), second.1.as_os_str()])).success();
    }
}

/// A `qemu-io` (or our own `qimg-io`) that keeps an image open, with its locks, until it is
/// dropped or killed.
#[derive(Debug)]
pub struct IoSession {
    child: Child,
    /// What the program prints before it reads a command.
    prompt: &'static str,
    stdin: Option<ChildStdin>,
    /// Standard output and error of the child, in the order in which they were written.
    said: PipeReader,
}

impl IoSession {
    /// Starts `qemu-io` with `args` (the image among them) and waits until it is ready.
    ///
    /// # Errors
    /// What the tool said before it gave up, when it could not open the image.
    ///
    /// # Panics
    /// The tool is not installed.
    pub fn start<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self, String> {
        let mut command = Command::new("qemu-io");
        command.args(args);
        Self::run(command, "qemu-io> ")
    }

    /// Like [`start`](IoSession::start), with our own `qimg-io`.
    ///
    /// # Errors
    /// What the program said before it gave up.
    ///
    /// # Panics
    /// The program cannot be built.
    pub fn start_own<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Self, String> {
        let mut command = Command::new(built_program("qimg-io"));
        command.args(args);
        Self::run(command, "qimg-io> ")
    }

    fn run(mut command: Command, prompt: &'static str) -> Result<Self, String> {
        let (said, writer) = std::io::pipe().unwrap();
        command.env("LC_ALL", "C").stdin(Stdio::piped());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}{HINT}"));
        // Our copies of the writing end, or the end of the child would never show.
        drop(command);
        let stdin = child.stdin.take();
        let mut session = Self { child, prompt, stdin, said };
        session.until_prompt().map(|_| session)
    }

    /// Ends the program at once (`SIGKILL`): nothing is flushed or closed.
    pub fn kill(mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends one command and returns everything said until the next prompt.
    ///
    /// # Panics
    /// The tool ended.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> String {
        let stdin = self.stdin.as_mut().expect("standard input stays open until drop");
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
        self.until_prompt()
            .unwrap_or_else(|said| panic!("the program ended after {line:?}: {said}"))
    }

    /// What is said up to the prompt; as an error when the child ends before.
    fn until_prompt(&mut self) -> Result<String, String> {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(self.prompt.as_bytes()) {
            match self.said.read(&mut byte) {
                Ok(0) => return Err(String::from_utf8_lossy(&text).into_owned()),
                Ok(_) => text.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("cannot read what the program says: {error}"),
            }
        }
        text.truncate(text.len() - self.prompt.len());
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for IoSession {
    /// Lets the tool end by itself, so that it flushes and closes the image.
    fn drop(&mut self) {
        drop(self.stdin.take());
        let mut rest = Vec::new();
        let _ = self.said.read_to_end(&mut rest);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Folder;

    #[test]
    fn the_real_tools_answer() {
        let folder = Folder::new();
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        Qemu::img(["create", "-f", "qcow2", name, "1M"]).success();
        let written = Qemu::io(["-f", "qcow2", "-c", "write -P 7 0 64k", name]).success();
        assert!(written.stdout.contains("wrote 65536/65536 bytes at offset 0"), "{written:?}");
        Qemu::check(&path);
        assert_eq!(Qemu::map_json("qcow2", &path)[0]["length"], 65536);
        assert_eq!(Qemu::info_json("qcow2", &path)["virtual-size"], 1 << 20);
        Qemu::img(["info", "missing"]).fails_with("Could not open 'missing'");
        let mut raw = vec![7; 65536];
        raw.resize(1 << 20, 0);
        Qemu::assert_same(("qcow2", &path), ("raw", &folder.write("image.raw", &raw)));
    }

    #[test]
    fn a_session_keeps_the_image_open() {
        let folder = Folder::new();
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        Qemu::img(["create", "-f", "qcow2", name, "1M"]).success();
        let mut session = IoSession::start(["-f", "qcow2", name]).unwrap();
        assert!(session.command("write -P 1 0 512").contains("wrote 512/512"));
        let refused = IoSession::start(["-f", "qcow2", name]).unwrap_err();
        assert!(refused.contains("Failed to get"), "{refused}");
        drop(session);
        Qemu::io(["-f", "qcow2", "-c", "read -P 1 0 512", name]).success();
    }

    #[test]
    fn our_own_program_can_be_killed_in_a_session() {
        let folder = Folder::new();
        let path = folder.path("image.qcow2");
        let name = path.to_str().unwrap();
        Qemu::img(["create", "-f", "qcow2", name, "1M"]).success();
        let mut session = IoSession::start_own(["-f", "qcow2", name]).unwrap();
        assert!(session.command("write -P 1 0 512").contains("wrote 512/512"));
        session.kill();
        Qemu::io(["-f", "qcow2", "-c", "read -P 1 0 512", name]).success();
    }
}
