//! ext4 file systems by e2fsprogs, and the files that must be in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::{Folder, Pattern};

/// Bytes of the file system itself.
const FS_BYTES: u64 = 40 << 20;
/// The disk is a little larger, so that its last cluster is never full.
const DISK_BYTES: u64 = FS_BYTES + 1536;

/// The files of a file system, by path, and those that must not be there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    present: BTreeMap<String, Vec<u8>>,
    removed: BTreeSet<String>,
}

/// A change of a mounted file system would be one of these.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Folder(&'static str),
    /// A new file, or a new content for an old one.
    Write(&'static str, Vec<u8>),
    Remove(&'static str),
}

/// Runs a program of e2fsprogs; where they are missing the test fails and says what to install.
fn run<A: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = A>,
) -> (Option<i32>, String, String) {
    // Debian keeps them where the path of an ordinary user does not lead.
    let paths = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(args)
        .env("PATH", format!("{paths}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run {program}: {error}; install the Debian package e2fsprogs")
        });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs a script of debugfs commands, which all must succeed.
fn debugfs(folder: &Folder, image: &Path, write: bool, script: &str) {
    let script = folder.write("debugfs-script", script.as_bytes());
    let mut args: Vec<&OsStr> = vec!["-f".as_ref(), script.as_ref(), image.as_ref()];
    if write {
        args.insert(0, "-w".as_ref());
    }
    let (code, stdout, stderr) = run("debugfs", args);
    // It exits 0 whatever happens; apart from its version, every word is a complaint.
    let complaints: Vec<_> =
        stderr.lines().filter(|line| !line.starts_with("debugfs 1.")).collect();
    assert!(code == Some(0) && complaints.is_empty(), "{complaints:?}\n{stdout}");
}

impl Files {
    /// Files of all sizes, some from this machine where it has them, in folders.
    fn generate(tree: &Path) -> Self {
        let mut files = Self::default();
        let sizes = [0, 1, 511, 4096, 5000, 65_536, 70_000, 300_000, 1_000_000, 5_000_000];
        for (number, size) in sizes.into_iter().enumerate() {
            let path = format!("/generated/part-{}/file-{number}", number % 3);
            files.present.insert(path, Pattern::new(number as u64).bytes(0, size));
        }
        for number in 0..200 {
            let text = format!("line {number}\n").repeat(number);
            files.present.insert(format!("/many/{number}"), text.into_bytes());
        }
        let licences = std::fs::read_dir("/usr/share/common-licenses").into_iter().flatten();
        for entry in licences.flatten().filter(|entry| entry.path().is_file()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.present.insert(format!("/licences/{name}"), std::fs::read(entry.path()).unwrap());
        }
        for (path, content) in &files.present {
            let path = tree.join(&path[1..]);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        files
    }

    /// Makes the changes to a raw image, and notes them.
    pub(crate) fn change(&mut self, folder: &Folder, image: &Path, changes: &[Change]) {
        let mut script = String::new();
        for (number, change) in changes.iter().enumerate() {
            match change {
                Change::Folder(path) => script += &format!("mkdir {path}\n"),
                Change::Remove(path) => {
                    assert!(self.present.remove(*path).is_some(), "{path} is there to be removed");
                    self.removed.insert((*path).to_owned());
                    script += &format!("rm {path}\n");
                }
                Change::Write(path, content) => {
                    let source = folder.write(format!("new-{number}"), content);
                    if self.present.insert((*path).to_owned(), content.clone()).is_some() {
                        script += &format!("rm {path}\n");
                    }
                    self.removed.remove(*path);
                    script += &format!("write {} {path}\n", source.display());
                }
            }
        }
        debugfs(folder, image, true, &script);
    }

    /// Asserts that a raw image holds a sound file system with exactly these contents.
    pub(crate) fn assert_in(&self, folder: &Folder, image: &Path) {
        let (code, stdout, stderr) = run("e2fsck", [OsStr::new("-fn"), image.as_ref()]);
        assert_eq!(code, Some(0), "e2fsck -fn\n{stdout}{stderr}");
        let out = folder.path("out");
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).unwrap();
        let place = |number: usize| out.join(number.to_string());
        let mut script = String::new();
        for (number, path) in self.present.keys().enumerate() {
            script += &format!("dump {path} {}\n", place(number).display());
        }
        debugfs(folder, image, false, &script);
        for (number, (path, content)) in self.present.iter().enumerate() {
            assert!(std::fs::read(place(number)).unwrap() == *content, "content of {path}");
        }
        for path in &self.removed {
            let command = format!("stat {path}");
            let (_, _, stderr) = run("debugfs", ["-R", &command, image.to_str().unwrap()]);
            assert!(stderr.contains("File not found"), "{path} is gone: {stderr}");
        }
    }
}

/// A raw disk with an ext4 file system full of files.
pub(crate) fn make(folder: &Folder) -> (PathBuf, Files) {
    let tree = folder.path("tree");
    std::fs::create_dir(&tree).unwrap();
    let files = Files::generate(&tree);
    let disk = folder.path("base.raw");
    std::fs::File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
    let blocks = (FS_BYTES / 4096).to_string();
    let words = ["-q", "-F", "-t", "ext4", "-b", "4096", "-d"].map(OsStr::new);
    let rest: [&OsStr; 3] = [tree.as_ref(), disk.as_ref(), blocks.as_ref()];
    let (code, stdout, stderr) = run("mke2fs", words.into_iter().chain(rest));
    assert_eq!(code, Some(0), "mke2fs\n{stdout}{stderr}");
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), DISK_BYTES);
    (disk, files)
}
