//! `qimg snapshot`: the list of the real tool; what changes images is refused by name.

use testkit::Qemu;

use crate::gallery::Gallery;
use crate::pair::{qimg, same};

#[test]
fn lists() {
    let gallery = Gallery::new();
    gallery.create(&["-f", "qcow2"], "snapshots.qcow2", "1M");
    let path = gallery.path("snapshots.qcow2");
    for name in ["first", "a snapshot with a name that is longer than its column"] {
        Qemu::img(["snapshot", "-c", name, &path]).success();
    }
    for flags in [&[][..], &["-l"], &["-q", "-l"], &["-U", "-l"], &["-f", "qcow2"]] {
        same(&[&["snapshot"], flags, &[&*path]].concat());
    }
    same(&["snapshot", "-l", &gallery.path("base.raw")]);
    same(&["snapshot", "-l", &gallery.path("nothing.qcow2")]);
    same(&["snapshot", "-l", "no-such-file"]);
}

#[test]
fn changes_are_refused_by_name() {
    let gallery = Gallery::new();
    let path = gallery.path("nothing.qcow2");
    let before = std::fs::read(&path).expect("an image");
    for flag in ["-a", "-c", "-d"] {
        qimg(&["snapshot", flag, "x", &path]).fails_with(&format!("{flag} is not offered yet"));
    }
    qimg(&["snapshot", "-l", "-c", "x", &path]).fails_with("Cannot mix '-l', '-a', '-c', '-d'");
    assert!(std::fs::read(&path).expect("an image") == before);
}
