//! `compare`: answers and exit codes.

use crate::gallery::Gallery;
use crate::pair::{nobody_reads, qimg, same, same_answer};

#[test]
fn all_pairs() {
    let gallery = Gallery::new();
    let names = [
        "base.raw",
        "odd.raw",
        "top.qcow2",
        "deep.qcow2",
        "compressed.qcow2",
        "zero.qcow2",
        "zero-allocated.qcow2",
        "scattered.qcow2",
        "nothing.qcow2",
        "small-clusters.qcow2",
    ];
    for a in names {
        for b in names {
            let (a, b) = (gallery.path(a), gallery.path(b));
            same(&["compare", &a, &b]);
            same(&["compare", "-q", "-U", &a, &b]);
        }
    }
}

#[test]
fn strict_mode() {
    let gallery = Gallery::new();
    gallery.io("raw", "base.raw", &["write -P 1 0 1M"]);
    gallery.folder().write("hole.raw", &[]);
    std::fs::File::options()
        .write(true)
        .open(gallery.folder().path("hole.raw"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let names =
        ["base.raw", "hole.raw", "zero.qcow2", "zero-allocated.qcow2", "nothing.qcow2", "odd.raw"];
    for a in names {
        for b in names {
            same(&["compare", "-s", &gallery.path(a), &gallery.path(b)]);
        }
    }
}

#[test]
fn a_difference_behind_the_shorter_image() {
    let gallery = Gallery::new();
    let base = std::fs::read(gallery.folder().path("base.raw")).unwrap();
    for (name, at) in [("last.raw", 1_900_000), ("none.raw", 0)] {
        let mut longer = base.clone();
        longer.resize(2 << 20, 0);
        if at > 0 {
            longer[at] = 1;
        }
        let longer = gallery.folder().write(name, &longer).display().to_string();
        same(&["compare", &gallery.path("base.raw"), &longer]);
        same(&["compare", &longer, &gallery.path("base.raw")]);
    }
}

#[test]
fn the_first_of_many_differences_is_told() {
    let gallery = Gallery::new();
    let mut bytes: Vec<u8> = (0..40 << 20).map(|at: u32| (at >> 12) as u8 | 1).collect();
    let a = gallery.folder().write("a.raw", &bytes).display().to_string();
    for at in [39 << 20, 17 << 20, (17 << 20) + 600, 11_111_111] {
        bytes[at] ^= 0x10;
        let b = gallery.folder().write("b.raw", &bytes).display().to_string();
        same(&["compare", "-f", "raw", "-F", "raw", &a, &b]);
    }
}

#[test]
fn failures_have_the_same_code() {
    let gallery = Gallery::new();
    let (raw, nosuch) = (gallery.path("base.raw"), gallery.path("nosuch"));
    same(&["compare", &nosuch, &raw]);
    same(&["compare", &raw, &nosuch]);
    same(&["compare", "-T", "foo", &raw, &raw]);
    same_answer(&["compare", "-f", "qcow2", &raw, &raw]);
    qimg(&["compare", &raw]).exits(1).fails_with("Expecting two image file names");
}

#[test]
fn progress_goes_to_standard_output() {
    let gallery = Gallery::new();
    let ours = qimg(&["compare", "-p", &gallery.path("base.raw"), &gallery.path("v2.qcow2")]);
    assert!(ours.stdout.starts_with("    (0.00/100%)\r"), "{ours:?}");
    assert!(ours.stdout.ends_with("    (100.00/100%)\rImages are identical.\n\n"), "{ours:?}");
    assert_eq!(ours.stderr, "");
}

/// Exit code 1 means "different", so a lost answer has another one.
#[test]
fn a_lost_answer_is_no_difference() {
    let gallery = Gallery::new();
    let top = gallery.path("top.qcow2");
    let compare = |stdout: std::process::Stdio| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_qimg"));
        program.args(["compare", "-p", &top, &top]).stdout(stdout).status().unwrap().code()
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(compare(full.into()), Some(2));
    assert_eq!(compare(nobody_reads()), Some(0));
}
