//! `qimg bench`: the same announcements and refusals, and the same bytes written.

use testkit::{Output, Qemu};

use crate::gallery::Gallery;
use crate::pair::qimg;

fn without_time(text: &str) -> String {
    let line = |line: &str| match line.starts_with("Run completed in ") {
        true => "Run completed\n".to_owned(),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn same(gallery: &Gallery, image: &str, flags: &[&str]) {
    let (path, raw) = (gallery.path("bench.qcow2"), gallery.path("bench.raw"));
    let args = [&["bench", "-f", "qcow2"], flags, &[&*path]].concat();
    let after = |run: &dyn Fn() -> Output| {
        std::fs::copy(gallery.path(image), &path).expect("a copy");
        let said = run();
        Qemu::img(["convert", "-f", "qcow2", "-O", "raw", &path, &raw]).success();
        (said, std::fs::read(&raw).expect("the copy is there"))
    };
    let (theirs, their_bytes) = after(&|| Qemu::img(&args));
    let (ours, our_bytes) = after(&|| qimg(&args));
    assert_eq!(ours.stderr.replace("qimg: ", "qemu-img: "), theirs.stderr, "{flags:?}");
    assert_eq!(without_time(&ours.stdout), without_time(&theirs.stdout), "{flags:?}");
    assert_eq!(ours.code, theirs.code, "{flags:?}");
    assert!(our_bytes == their_bytes, "{flags:?}: the images differ");
}

#[test]
fn requests_are_sent() {
    let gallery = Gallery::new();
    for image in ["zero.qcow2", "top.qcow2"] {
        for flags in [
            &["-c", "10"][..],
            &["-c", "500", "-S", "64k", "-d", "3"],
            &["-c", "20", "-s", "512", "-o", "4k", "-t", "none"],
            &["-w", "-c", "20", "--pattern=0xab"],
            &["-w", "-c", "300", "-d", "8", "-S", "12k", "--pattern=7", "-t", "unsafe"],
            &["-w", "-c", "20", "-d", "4", "--flush-interval=5", "--no-drain"],
            &["-w", "-c", "13", "-d", "5", "--flush-interval=5"],
            &["-U", "-q", "-c", "5"],
        ] {
            same(&gallery, image, flags);
        }
    }
}

#[test]
fn refusals() {
    let gallery = Gallery::new();
    for flags in [
        &["-c", "0"][..],
        &["-c", "foo"],
        &["-d", "0"],
        &["-o", "-1"],
        &["-s", "5G"],
        &["-S", "foo"],
        &["-t", "foo"],
        &["-i", "foo"],
        &["-i", "native"],
        &["-n"],
        &["-w", "--pattern=256"],
        &["--flush-interval=5"],
        &["-w", "--flush-interval=5"],
        &["-U", "-w"],
        &["-c", "3", "-o", "1M"],
        &["-c", "5", "-s", "5M"],
        &["-w", "-c", "1", "-s", "5M"],
    ] {
        same(&gallery, "zero.qcow2", flags);
    }
}
