//! Records of backing files, and warnings about those that have changed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use testkit::{Folder, Qemu, run};

use crate::pair::{qimg, qimg_io};

/// Head of the extension: "qimg" and the length of the record.
const RECORD: &[u8] = b"qimg\0\0\0\x60";

struct Disk(Folder);

impl Disk {
    fn new() -> Self {
        let folder = Folder::new();
        folder.write("base.raw", &[7; 1 << 20]);
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    fn has_record(&self, name: &str) -> bool {
        self.0.read(name).windows(RECORD.len()).any(|bytes| bytes == RECORD)
    }

    fn change_base(&self) {
        let file = fs::File::options().write(true).open(self.path("base.raw")).expect("the base");
        file.write_all_at(&[8; 4096], 0).expect("a write");
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        file.set_modified(then).expect("a time");
    }
}

const CREATE: [&str; 8] = ["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw"];

#[test]
fn new_overlays_record_their_base_unless_told_not_to() {
    let disk = Disk::new();
    let create = |name: &str, more: &[&str]| {
        let path = disk.path(name);
        qimg(&[&CREATE, more, &[&*path, "1M"]].concat()).success();
        Qemu::check(path.as_ref());
        disk.has_record(name)
    };
    assert!(create("pinned", &[]));
    assert!(create("version-2", &["-o", "compat=0.10"]));
    assert!(!create("bare", &["--no-pin"]));
    assert!(!create("unsafe", &["-u"]));
    // A header of 512 bytes has room for a record, or for a long name.
    assert!(create("small", &["-o", "cluster_size=512"]));
    let long = format!("{}base.raw", "./".repeat(150));
    assert!(!create("full", &["-o", "cluster_size=512", "-b", &long]));
}

#[test]
fn a_base_that_has_changed_is_told_in_one_line() {
    let disk = Disk::new();
    let top = disk.path("top.qcow2");
    qimg(&[&CREATE, &[&*top][..]].concat()).success();
    let raw = disk.path("out.raw");
    let verbs: [&[&str]; 4] = [
        &["map", &top],
        &["compare", &top, &top],
        &["convert", "-O", "raw", &top, &raw],
        &["chain", "show", &top],
    ];
    for verb in verbs {
        assert_eq!(qimg(verb).success().stderr, "", "{verb:?}");
    }
    disk.change_base();
    let warning = format!(
        "warning: '{top}': its backing file '{}' was modified since the overlay was made (its \
         content is another): what the overlay does not own may be wrong\n",
        disk.path("base.raw")
    );
    for verb in verbs {
        let said = qimg(verb).success().stderr;
        assert_eq!(said.replace(&warning, ""), "", "{verb:?}");
        assert!(said.contains("warning"), "{verb:?}");
    }
    let said = qimg_io(&["-f", "qcow2", "-c", "read 0 512", &top]).success();
    assert_eq!(said.stderr, warning);
}

#[test]
fn under_the_name_of_the_real_tool_there_is_neither_record_nor_warning() {
    let disk = Disk::new();
    let stand_in = disk.path("qemu-img");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qimg"), &stand_in).unwrap();
    let named = |args: &[&str]| run(Path::new(&stand_in), args);
    let (ours, theirs) = (disk.path("ours.qcow2"), disk.path("theirs.qcow2"));
    named(&[&CREATE, &[&*theirs][..]].concat()).success();
    assert!(!disk.has_record("theirs.qcow2"));
    qimg(&[&CREATE, &[&*ours][..]].concat()).success();
    assert!(disk.has_record("ours.qcow2"));
    disk.change_base();
    assert_eq!(named(&["map", &ours]).success().stderr, "");
}
