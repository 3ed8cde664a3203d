//! Locks against running processes of the real tools, in both directions.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;

use block_io::{Create, FileStorage, Lock, Locking, OpenOptions, Storage};
use testkit::{Folder, IoSession, Qemu};

fn image(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path("image.qcow2");
    Qemu::img(["create", "-f", "qcow2", path.to_str().unwrap(), "1M"]).success();
    path
}

fn open(path: &Path) -> FileStorage {
    OpenOptions::new().write(true).locking(Locking::On).open(path).unwrap()
}

/// How a tool answers while we hold `lock`: `None` when it works, or part of what it says.
fn check_tool(path: &Path, lock: Lock, args: &[&str], refusal: Option<&str>) {
    let holder = open(path);
    holder.lock(lock).unwrap();
    let output = if args[0] == "-c" || args[0] == "-r" { Qemu::io(args) } else { Qemu::img(args) };
    match refusal {
        None => drop(output.success()),
        Some(text) => drop(output.fails_with(text)),
    }
}

const WRITE: Option<&str> = Some("Failed to get \"write\" lock");
const SHARED_WRITE: Option<&str> = Some("Failed to get shared \"write\" lock");

#[test]
fn the_tools_respect_our_locks() {
    let folder = Folder::new();
    let path = image(&folder);
    let name = path.to_str().unwrap();
    let write: &[&str] = &["-c", "write 0 512", name];
    let read: &[&str] = &["-r", "-c", "read 0 512", name];
    let info: &[&str] = &["info", name];
    let shared: &[&str] = &["info", "-U", name];
    let cases = [
        (Lock::none(), [None, None, None, None]),
        (Lock::qcow2_writer(), [WRITE, SHARED_WRITE, SHARED_WRITE, None]),
        (Lock::qcow2_reader(), [WRITE, None, None, None]),
        (Lock::info(), [WRITE, None, None, None]),
        (Lock::backing(), [None, None, None, None]),
        (Lock::shared_reader(), [None, None, None, None]),
        (Lock::raw_writer(), [SHARED_WRITE, SHARED_WRITE, SHARED_WRITE, None]),
        (Lock::creating(), [Some("Failed to get"), SHARED_WRITE, SHARED_WRITE, None]),
    ];
    for (lock, refusals) in cases {
        for (args, refusal) in [write, read, info, shared].into_iter().zip(refusals) {
            check_tool(&path, lock, args, refusal);
        }
    }
}

/// What we are told while a tool holds the image: `None` when the lock is granted.
fn check_ours(path: &Path, lock: Lock, refusal: Option<&str>) {
    let answer = open(path).lock(lock).map_err(|error| error.to_string());
    assert_eq!(answer.err().as_deref(), refusal, "{lock:?}");
}

#[test]
fn we_respect_a_writing_tool() {
    let folder = Folder::new();
    let path = image(&folder);
    let session = IoSession::start(["-f", "qcow2", path.to_str().unwrap()]).unwrap();
    check_ours(&path, Lock::qcow2_writer(), WRITE);
    check_ours(&path, Lock::qcow2_reader(), SHARED_WRITE);
    check_ours(&path, Lock::info(), SHARED_WRITE);
    check_ours(&path, Lock::raw_writer(), WRITE);
    check_ours(&path, Lock::backing(), None);
    check_ours(&path, Lock::shared_reader(), None);
    let options = OpenOptions::new().write(true).create(Create::Truncate);
    assert_eq!(options.open(&path).map_err(|error| error.to_string()).err().as_deref(), WRITE);
    drop(session);
    check_ours(&path, Lock::qcow2_writer(), None);
    Qemu::check(&path);
}

#[test]
fn we_respect_a_reading_tool() {
    let folder = Folder::new();
    let path = image(&folder);
    let _session = IoSession::start(["-r", "-f", "qcow2", path.to_str().unwrap()]).unwrap();
    check_ours(&path, Lock::qcow2_writer(), WRITE);
    check_ours(&path, Lock::qcow2_reader(), None);
    check_ours(&path, Lock::info(), None);
    check_ours(&path, Lock::creating(), WRITE);
}

/// The bytes that are locked in the file, by anybody. The kernel's list may repeat or miss lines
/// while others lock and unlock elsewhere, so it is read until it says the same three times.
fn bytes_held(path: &Path) -> Vec<u64> {
    let mut said = listed_bytes(path);
    let mut agreed = 0;
    while agreed < 3 {
        let again = listed_bytes(path);
        agreed = if again == said { agreed + 1 } else { 0 };
        said = again;
    }
    said
}

fn listed_bytes(path: &Path) -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(path).unwrap().ino());
    let table = std::fs::read_to_string("/proc/locks").unwrap();
    let ours = table.lines().filter(|line| line.contains("OFDLCK") && line.contains(&inode));
    let mut bytes: Vec<u64> = ours
        .flat_map(|line| {
            let mut words = line.rsplit(' ');
            let end: u64 = words.next().unwrap().parse().unwrap();
            let start: u64 = words.next().unwrap().parse().unwrap();
            start..=end
        })
        .collect();
    bytes.sort_unstable();
    bytes.dedup();
    bytes
}

#[test]
fn roles_hold_the_same_bytes_as_the_tool() {
    let folder = Folder::new();
    let path = image(&folder);
    let name = path.to_str().unwrap();
    let cases: [(&[&str], Lock); 5] = [
        (&["-f", "qcow2", name], Lock::qcow2_writer()),
        (&["-r", "-f", "qcow2", name], Lock::qcow2_reader()),
        (&["-r", "-U", "-f", "qcow2", name], Lock::shared_reader()),
        (&["-f", "raw", name], Lock::raw_writer()),
        (&["-r", "-f", "raw", name], Lock::raw_reader()),
    ];
    for (args, lock) in cases {
        let session = IoSession::start(args).unwrap();
        let theirs = bytes_held(&path);
        drop(session);
        let holder = open(&path);
        holder.lock(lock).unwrap();
        assert!(!theirs.is_empty(), "the tool holds no lock with {args:?}");
        assert_eq!(bytes_held(&path), theirs, "{args:?}");
    }
}
