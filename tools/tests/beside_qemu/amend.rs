//! `qimg amend`: the same answers as the real tool, images that it finds clean, and the same bytes.

use testkit::{Output, Qemu};

use crate::gallery::Gallery;
use crate::pair::{qimg, same_answer};

/// Runs both tools on a copy and compares what they say and what becomes of the image.
#[track_caller]
fn same(gallery: &Gallery, image: &str, flags: &[&str]) {
    let path = gallery.path("amended.qcow2");
    let args = [&["amend", "-f", "qcow2"], flags, &[&*path]].concat();
    let after = |run: &dyn Fn() -> Output| {
        std::fs::copy(gallery.path(image), &path).expect("a copy");
        let output = run();
        (output, description(gallery, &path))
    };
    let (theirs, their_image) = after(&|| Qemu::img(&args));
    let (ours, our_image) = after(&|| qimg(&args));
    assert_eq!(ours.stdout, theirs.stdout, "{image} {flags:?}");
    assert_eq!(ours.code, theirs.code, "{image} {flags:?}: {}", ours.stderr);
    let said = ours.stderr.replace("qimg: ", "qemu-img: ").replace("'qimg ", "'qemu-img ");
    assert_eq!(said, theirs.stderr, "{image} {flags:?}");
    assert_eq!(our_image, their_image, "{image} {flags:?}");
}

/// What the real tool says of an image, its content, and that it is clean.
fn description(gallery: &Gallery, path: &str) -> (serde_json::Value, Vec<u8>) {
    Qemu::img(["check", "-q", path]).success();
    let mut info = Qemu::img(["info", "--output=json", path]).json();
    let members = info.as_object_mut().expect("an object");
    members.retain(|name, _| {
        ["virtual-size", "format-specific", "backing-filename", "snapshots"].contains(&&**name)
    });
    let raw = gallery.path("amended.raw");
    Qemu::img(["convert", "-O", "raw", path, &raw]).success();
    (info, std::fs::read(raw).expect("the copy is there"))
}

/// Images of both versions and many shapes.
fn gallery() -> Gallery {
    let gallery = Gallery::new();
    let outside = format!("data_file={},data_file_raw=on", gallery.path("outside.data"));
    let zeros = ["write -P 1 0 512k", "write -z 256k 64k", "write -z -u 640k 64k"];
    for (name, flags) in [
        ("v3.qcow2", &["-o", "compat=1.1"][..]),
        ("wide.qcow2", &["-o", "refcount_bits=64,lazy_refcounts=on"]),
        ("narrow.qcow2", &["-o", "refcount_bits=1"]),
        ("extended.qcow2", &["-o", "extended_l2=on"]),
        ("tiny.qcow2", &["-o", "cluster_size=512"]),
        ("over.qcow2", &["-b", "base.raw", "-F", "raw"]),
        ("unused-zstd.qcow2", &["-o", "compression_type=zstd"]),
        ("outside.qcow2", &["-o", &*outside]),
    ] {
        gallery.create(&[&["-f", "qcow2"], flags].concat(), name, "1M");
        gallery.io("qcow2", name, &zeros);
    }
    for name in ["snapshots.qcow2", "old-snapshots.qcow2"] {
        let compat = if name.starts_with("old") { "compat=0.10" } else { "compat=1.1" };
        gallery.create(&["-f", "qcow2", "-o", compat], name, "1M");
        gallery.io("qcow2", name, &["write -P 7 0 200k"]);
        Qemu::img(["snapshot", "-c", "first", &gallery.path(name)]).success();
        Qemu::img(["snapshot", "-c", "second", &gallery.path(name)]).success();
    }
    let far = format!("{}base.raw", "./".repeat(250));
    for (name, compat) in [("far.qcow2", "compat=1.1"), ("old-far.qcow2", "compat=0.10")] {
        let flags = ["-f", "qcow2", "-o", compat, "-b", &far, "-F", "raw"];
        gallery.create(&flags, name, "1M");
    }
    gallery
}

#[test]
fn options_change_as_in_the_real_tool() {
    let gallery = gallery();
    let images = [
        "v3.qcow2",
        "v2.qcow2",
        "wide.qcow2",
        "narrow.qcow2",
        "extended.qcow2",
        "tiny.qcow2",
        "over.qcow2",
        "unused-zstd.qcow2",
        "zstd.qcow2",
        "old-snapshots.qcow2",
        "far.qcow2",
        "old-far.qcow2",
    ];
    let changes = [
        "lazy_refcounts=on",
        "lazy_refcounts=off",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on,refcount_bits=32,size=2M",
        "refcount_bits=2",
        "refcount_bits=64",
        "size=2M",
        "data_file_raw=off",
        "backing_file=x",
    ];
    // Every image, and every change, a few times, but not all of both: each pair costs many syncs.
    for (index, image) in images.into_iter().enumerate() {
        for change in changes.into_iter().skip(index % 3).step_by(3) {
            same(&gallery, image, &["-o", change]);
        }
    }
    same(&gallery, "old-far.qcow2", &["-o", "compat=1.1"]);
    same(&gallery, "outside.qcow2", &["-o", "data_file_raw=off"]);
    for change in ["lazy_refcounts=on", "refcount_bits=64", "backing_file=x"] {
        same(&gallery, "v3.qcow2", &["-o", change]);
    }
}

#[test]
fn version_2_gets_plain_clusters() {
    let gallery = gallery();
    for image in [
        "v3.qcow2",
        "wide.qcow2",
        "narrow.qcow2",
        "extended.qcow2",
        "tiny.qcow2",
        "over.qcow2",
        "unused-zstd.qcow2",
        "zstd.qcow2",
        "far.qcow2",
        "outside.qcow2",
    ] {
        same(&gallery, image, &["-o", "compat=0.10"]);
        same(&gallery, image, &["-o", "compat=0.10,refcount_bits=16,lazy_refcounts=off"]);
    }
    let ours = qimg(&["amend", "-o", "compat=0.10", &gallery.path("snapshots.qcow2")]);
    ours.fails_with("Internal snapshots prevent downgrade of image");
}

#[test]
fn counts_that_do_not_fit_are_named() {
    let gallery = gallery();
    same(&gallery, "snapshots.qcow2", &["-o", "refcount_bits=1"]);
    same(&gallery, "snapshots.qcow2", &["-o", "refcount_bits=2"]);
}

#[test]
fn help_and_wrong_command_lines() {
    let gallery = gallery();
    let (image, raw) = (gallery.path("v3.qcow2"), gallery.path("base.raw"));
    for args in [
        &["amend", "-o", "help", &*image][..],
        &["amend", "-f", "qcow2", "-o", "help"],
        &["amend", "-o", "help"],
        &["amend", "-f", "raw", "-o", "help"],
        &["amend", "-f", "raw", "-o", "size=1M", &raw],
        &["amend", "-f", "bochs", "-o", "help"],
        &["amend", "-f", "foo", "-o", "help"],
        &["amend", "-o", "lazy_refcounts=on", "no-such-file"],
        &["amend", "-o", ",size=1M", &image],
        &["amend", "-o", "compression_type=zstd,", &image],
        &["amend", "-o", "foo=1", &image],
        &["amend", "-o", "compat=foo", &image],
        &["amend", "-o", "refcount_bits=3", &image],
        &["amend", "-o", "data_file=x", &image],
        &["amend", "-o", "data_file_raw=on", &image],
        &["amend", "-t", "foo", "-o", "size=1M", &image],
        &["amend", &image],
    ] {
        same_answer(args);
    }
    same(&gallery, "v3.qcow2", &["-o", "cluster_size=4k"]);
    same(&gallery, "v3.qcow2", &["-p", "-o", "lazy_refcounts=on"]);
    same(&gallery, "v3.qcow2", &["-q", "-p", "-o", "lazy_refcounts=on"]);
}
