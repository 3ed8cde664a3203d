//! `qimg measure`: the same sums as the real tool over sizes, layouts and sources.

use crate::gallery::{Gallery, READABLE};
use crate::pair::{same, same_answer};
use testkit::Qemu;

/// Layouts of the new image.
const LAYOUTS: [&str; 12] = [
    "compat=1.1",
    "cluster_size=512",
    "cluster_size=4k",
    "cluster_size=2M",
    "refcount_bits=1",
    "cluster_size=512,refcount_bits=64",
    "extended_l2=on",
    "extended_l2=on,cluster_size=16k",
    "preallocation=metadata",
    "preallocation=full",
    "compat=0.10",
    "backing_file=x",
];

#[test]
fn empty_images() {
    for layout in LAYOUTS {
        for size in ["0", "1", "513", "64k", "100k", "1.5G", "2T", "128T", "64P", "7E"] {
            same(&["measure", "-O", "qcow2", "-o", layout, "--size", size]);
        }
    }
    same(&["measure", "--size", "1000"]);
}

#[test]
fn images_with_data() {
    let gallery = Gallery::new();
    for (name, format) in READABLE {
        let path = gallery.path(name);
        for layout in LAYOUTS {
            same(&["measure", "-f", format, "-O", "qcow2", "-o", layout, &path]);
        }
        same(&["measure", "--output=json", "-O", "qcow2", &path]);
        same(&["measure", &path]);
    }
}

#[test]
fn bitmaps_are_counted() {
    let gallery = Gallery::new();
    gallery.create(&["-f", "qcow2"], "bitmaps.qcow2", "4G");
    let path = gallery.path("bitmaps.qcow2");
    for (name, granularity) in [("b0", "64k"), ("a-longer-name", "1M"), ("fine", "512")] {
        Qemu::img(["bitmap", "--add", "-g", granularity, &path, name]).success();
        for layout in LAYOUTS {
            same(&["measure", "-O", "qcow2", "-o", layout, &path]);
        }
    }
}

#[test]
fn wrong_command_lines() {
    for args in [
        &["measure"][..],
        &["measure", "--size", "foo"],
        &["measure", "--size", "8E"],
        &["measure", "-f", "raw", "--size", "1G"],
        &["measure", "-O", "foo", "--size", "1G"],
        &["measure", "--size", "1k", "a"],
        &["measure", "a", "b"],
        &["measure", "-O", "qcow2", "-o", "cluster_size=100", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "refcount_bits=3", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "compat=0.10,refcount_bits=1", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "preallocation=foo", "--size", "1G"],
        &["measure", "-O", "qcow2", "-o", "compat=foo", "--size", "1G"],
        &["measure", "no-such-file"],
    ] {
        same(args);
    }
    same_answer(&["measure", "--output", "xml", "a"]);
}
