//! What the tests of `qimg chain` share: a folder with a chain in it, and what became of its files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Folder, Output, run};

/// A folder whose files are meant by their names, as a user in it does.
pub(crate) struct Place {
    pub(crate) folder: Folder,
}

impl Place {
    /// `base.raw` of 4 MiB of ones, `mid.qcow2` with twos in the first, `top.qcow2` with threes in the
    /// second MiB.
    pub(crate) fn with_chain() -> Self {
        let place = Self { folder: Folder::new() };
        place.folder.write("base.raw", &vec![1; 4 << 20]);
        place.overlay("mid.qcow2", ("base.raw", "raw"), &["write -P 2 0 1M"]);
        place.overlay("top.qcow2", ("mid.qcow2", "qcow2"), &["write -P 3 1M 1M"]);
        place
    }

    pub(crate) fn overlay(&self, name: &str, below: (&str, &str), commands: &[&str]) {
        self.qemu_img(&["create", "-q", "-f", "qcow2", "-b", below.0, "-F", below.1, name]);
        self.io(name, commands);
    }

    pub(crate) fn io(&self, name: &str, commands: &[&str]) {
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<_> = ["-f", "qcow2"].into_iter().chain(commands).chain([name]).collect();
        let said = self.run("qemu-io", &args).success();
        assert!(!said.stdout.contains("failed") && said.stderr.is_empty(), "{said:?}");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path(name).display().to_string()
    }

    /// The real tool, in this folder.
    #[track_caller]
    pub(crate) fn qemu_img(&self, args: &[&str]) -> Output {
        self.run("qemu-img", args).success()
    }

    /// Our program, in this folder.
    pub(crate) fn qimg<A: AsRef<OsStr>>(&self, args: &[A]) -> Output {
        self.run(env!("CARGO_BIN_EXE_qimg"), args)
    }

    fn run<A: AsRef<OsStr>>(&self, program: &str, args: &[A]) -> Output {
        // `env -C` is how a command comes to run in another folder.
        let words = ["-C".as_ref(), self.folder.root().as_os_str(), program.as_ref()];
        run(Path::new("env"), words.into_iter().chain(args.iter().map(AsRef::as_ref)))
    }

    /// The bytes of all files.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(self.folder.root()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
        files
    }

    /// The names of the files that are new, gone or changed since.
    pub(crate) fn changed_since(&self, before: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
        let now = self.files();
        let paths: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
        let changed = paths.into_iter().filter(|path| before.get(*path) != now.get(*path));
        changed.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    /// What an image shows, as the real tool reads it.
    pub(crate) fn shows(&self, name: &str) -> Vec<u8> {
        self.qemu_img(&["convert", "-O", "raw", name, "shown"]);
        let shown = self.folder.read("shown");
        std::fs::remove_file(self.folder.path("shown")).unwrap();
        shown
    }

    /// Refused with these words in one line, and nothing has changed.
    #[track_caller]
    pub(crate) fn refuses<A: AsRef<OsStr>>(&self, args: &[A], words: &str) {
        let before = self.files();
        let said = self.qimg(args).fails_with(words);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        assert_eq!(self.changed_since(&before), [""; 0], "{said:?}");
    }
}

/// A command of our program under the name of the real tool.
pub(crate) fn stand_in(place: &Place) -> Command {
    let link = place.folder.path("qemu-img");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qimg"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command.current_dir(place.folder.root()).env("LC_ALL", "C");
    command
}
