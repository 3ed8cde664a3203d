//! `qimg dd`: the same bytes in the output as the real tool puts there.

use testkit::{Output, Qemu};

use crate::gallery::Gallery;
use crate::pair::qimg;

/// Runs both tools and compares answers and outputs.
#[track_caller]
fn same(gallery: &Gallery, flags: &[&str], input: &str, operands: &[&str]) {
    let (output, raw) = (gallery.path("output"), gallery.path("output.raw"));
    let (input, target) = (format!("if={}", gallery.path(input)), format!("of={output}"));
    let args = [&["dd"], flags, &[&*input, &*target], operands].concat();
    let after = |run: &dyn Fn() -> Output| {
        let _ = std::fs::remove_file(&output);
        let said = run();
        let format = if flags.contains(&"qcow2") { "qcow2" } else { "raw" };
        let bytes = std::fs::metadata(&output).ok().map(|_| {
            Qemu::img(["convert", "-f", format, "-O", "raw", &output, &raw]).success();
            std::fs::read(&raw).expect("the copy is there")
        });
        (said, bytes)
    };
    let (theirs, their_bytes) = after(&|| Qemu::img(&args));
    let (ours, our_bytes) = after(&|| qimg(&args));
    assert_eq!(ours.stderr.replace("qimg: ", "qemu-img: "), theirs.stderr, "{args:?}");
    assert_eq!((ours.stdout, ours.code), (theirs.stdout, theirs.code), "{args:?}");
    assert!(our_bytes == their_bytes, "{args:?}: the outputs differ");
}

#[test]
fn parts_are_copied() {
    let gallery = Gallery::new();
    for input in ["base.raw", "odd.raw", "top.qcow2", "deep.qcow2", "compressed.qcow2"] {
        for operands in [
            &[][..],
            &["bs=64k"],
            &["bs=1k", "count=300", "skip=100"],
            &["bs=7", "count=30", "skip=1"],
            &["bs=1k", "count=1", "skip=2"],
            &["bs=1M", "skip=1"],
            &["bs=1M", "skip=100"],
            &["count=0"],
            &["bs=1.5k"],
        ] {
            same(&gallery, &[], input, operands);
        }
        same(&gallery, &["-O", "qcow2"], input, &["bs=1000", "skip=3"]);
    }
}

#[test]
fn wrong_operands() {
    let gallery = Gallery::new();
    for operands in [
        "foo=1",
        "bar",
        "conv=notrunc",
        "bs=foo",
        "bs=0",
        "bs=3G",
        "bs=-1",
        "count=foo",
        "count=-1",
        "skip=foo",
    ] {
        same(&gallery, &[], "base.raw", &[operands]);
    }
    same(&gallery, &["-O", "bochs"], "base.raw", &[]);
    same(&gallery, &[], "no-such-file", &[]);
}

#[test]
fn the_input_survives_being_named_as_the_output() {
    let gallery = Gallery::new();
    let path = gallery.path("base.raw");
    let before = std::fs::read(&path).expect("an image");
    qimg(&["dd", &format!("if={path}"), &format!("of={path}")]).fails_with("the target is");
    assert!(std::fs::read(&path).expect("an image") == before);
}
