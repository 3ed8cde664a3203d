//! `check`: text, JSON, findings and exit codes on sound and damaged images.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use crate::gallery::{Gallery, READABLE};
use crate::pair::{same, same_answer};

/// Overwrites bytes of a file.
fn poke(path: &str, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("the image is there");
    file.write_all_at(bytes, offset).expect("it can be written");
}

#[test]
fn sound_images() {
    let gallery = Gallery::new();
    for (name, _) in READABLE {
        for flags in [&["check"][..], &["check", "--output=json"], &["check", "-q", "-U"]] {
            same(&[flags, &[&gallery.path(name)]].concat());
        }
    }
}

#[test]
fn damaged_images() {
    let gallery = Gallery::new();
    for (name, offset, bytes) in [
        ("leak.qcow2", 0x20000 + 2 * 7, &[0, 1][..]),
        ("lost.qcow2", 0x20000 + 2 * 5, &[0, 0]),
        ("beyond.qcow2", 0x40000 + 8, &[0x80, 0, 0, 0, 0, 0xff, 0, 0]),
        ("table.qcow2", 0x30000 + 3, &[0xff]),
    ] {
        gallery.create(&["-f", "qcow2"], name, "1M");
        gallery.io("qcow2", name, &["write 0 64k", "write 128k 64k"]);
        let path = gallery.path(name);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0x80000).unwrap();
        poke(&path, offset, bytes);
        for flags in [&["check"][..], &["check", "--output=json"], &["check", "-q"]] {
            same(&[flags, &[&path]].concat());
        }
    }
}

#[test]
fn leaks_are_repaired_alike() {
    let gallery = Gallery::new();
    for (flags, name) in [(&["-r", "leaks"][..], "a.qcow2"), (&["-r", "all"], "b.qcow2")] {
        for output in ["--output=human", "--output=json"] {
            let path = gallery.path(name);
            let damage = || {
                gallery.create(&["-f", "qcow2"], name, "1M");
                gallery.io("qcow2", name, &["write 0 64k"]);
                OpenOptions::new().write(true).open(&path).unwrap().set_len(0x80000).unwrap();
                poke(&path, 0x20000 + 2 * 7, &[0, 1]);
            };
            damage();
            let args = [&["check", output], flags, &[&*path]].concat();
            let theirs = testkit::Qemu::img(&args);
            damage();
            let ours = crate::pair::qimg(&args);
            let said = (&ours.stdout, &ours.stderr, ours.code);
            assert_eq!(said, (&theirs.stdout, &theirs.stderr, theirs.code));
            testkit::Qemu::check(path.as_ref());
        }
    }
}

#[test]
fn images_that_cannot_be_checked() {
    let gallery = Gallery::new();
    let (raw, top) = (gallery.path("base.raw"), gallery.path("top.qcow2"));
    same(&["check", &raw]);
    same(&["check", "-f", "raw", &top]);
    same(&["check", &gallery.path("nosuch")]);
    same(&["check", "-r", "all", "-U", &top]);
    same(&["check", "-T", "foo", &top]);
    same_answer(&["check", "-f", "qcow2", &raw]);
    let short = gallery.folder().write("short.qcow2", b"QFI\xfb\0\0\0\x03");
    same_answer(&["check", short.to_str().unwrap()]);
}
