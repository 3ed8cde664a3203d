//! `convert -o`: the options of `create` for the target of a copy, and space given in advance that
//! a copy leaves alone.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::os::unix::fs::MetadataExt;

use testkit::Qemu;

use crate::gallery::Gallery;
use crate::pair::{qimg, same, same_answer};

fn taken(path: &str) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn targets_of_every_kind_show_the_source() {
    let gallery = Gallery::new();
    let (new, data) = (gallery.path("new.qcow2"), gallery.path("new.raw"));
    for (options, reserved) in [
        ("preallocation=metadata", false),
        ("preallocation=falloc,cluster_size=4k", true),
        ("preallocation=full,extended_l2=on", true),
        ("extended_l2=on,refcount_bits=64", false),
        ("extended_l2=on,cluster_size=32k,preallocation=metadata,refcount_bits=1", false),
        ("cluster_size=512,refcount_bits=8,lazy_refcounts=on", false),
        ("compat=0.10,preallocation=falloc", true),
        ("data_file=DATA", false),
        ("data_file=DATA,data_file_raw=on", false),
        ("data_file=DATA,preallocation=falloc,extended_l2=on", true),
    ] {
        let options = options.replace("DATA", &data);
        for (source, format) in [("base.raw", "raw"), ("deep.qcow2", "qcow2")] {
            let source = gallery.path(source);
            let args = ["convert", "-f", format, "-O", "qcow2", "-o", &options, &source, &new];
            qimg(&args).success();
            Qemu::check(new.as_ref());
            Qemu::assert_same((format, source.as_ref()), ("qcow2", new.as_ref()));
            let size = Qemu::info_json(format, source.as_ref())["virtual-size"].as_u64().unwrap();
            let holder = if options.contains("data_file") { &data } else { &new };
            let is_full = taken(holder) >= size;
            // Nothing of what was reserved is given back, nothing is taken that nobody asked for.
            assert_eq!(is_full, reserved, "{options} {}", taken(holder));
            if options.contains("raw=on") {
                Qemu::assert_same((format, source.as_ref()), ("raw", data.as_ref()));
            }
        }
    }
}

#[test]
fn zeros_over_a_backing_file_keep_what_was_reserved() {
    let gallery = Gallery::new();
    let (new, base, top) =
        (gallery.path("new.qcow2"), gallery.path("base.raw"), gallery.path("top.qcow2"));
    let options = "extended_l2=on,preallocation=falloc";
    let args = ["convert", "-O", "qcow2", "-B", &base, "-F", "raw", "-o", options, &top, &new];
    qimg(&args).success();
    Qemu::check(new.as_ref());
    Qemu::assert_same(("qcow2", top.as_ref()), ("qcow2", new.as_ref()));
    assert!(taken(&new) >= 2 << 20, "{}", taken(&new));
    // A zero cluster of the source: the real tool gives its space back, ours keeps it.
    let map = Qemu::map_json("qcow2", new.as_ref());
    let zero = map.as_array().unwrap().iter().find(|run| run["start"] == 2 << 16).unwrap();
    assert!(zero["zero"] == true && zero["depth"] == 0 && zero["offset"].is_u64(), "{map:#}");
}

#[test]
fn subclusters_of_zeros_are_left_out() {
    let gallery = Gallery::new();
    let (raw, new) = (gallery.path("base.raw"), gallery.path("new.qcow2"));
    let map = |program: &dyn Fn(&[&str])| {
        program(&["convert", "-f", "raw", "-O", "qcow2", "-o", "extended_l2=on", &raw, &new]);
        Qemu::map_json("qcow2", new.as_ref())
    };
    let theirs = map(&|args| drop(Qemu::img(args).success()));
    let ours = map(&|args| drop(qimg(args).success()));
    assert_eq!(ours, theirs);
}

#[test]
fn impossible_targets_are_refused_alike() {
    let gallery = Gallery::new();
    let (raw, new) = (gallery.path("base.raw"), gallery.path("new"));
    for options in [
        "cluster_size=3k",
        "extended_l2=on,cluster_size=8k",
        "compat=0.10,refcount_bits=8",
        "data_file_raw=on",
        "preallocation=foo",
        "data_file=/nosuch/data",
    ] {
        same(&["convert", "-f", "raw", "-O", "qcow2", "-o", options, &raw, &new]);
    }
    same(&["convert", "-f", "raw", "-O", "raw", "-o", "preallocation=metadata", &raw, &new]);
    same(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "preallocation=full", &raw, &new]);
    let own = format!("data_file={raw}");
    same_answer(&["convert", "-f", "raw", "-O", "qcow2", "-o", &own, &raw, &new]);
    let data = format!("data_file={}", gallery.path("data"));
    same_answer(&["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &data, &raw, &new]);
    assert!(std::fs::metadata(&raw).unwrap().len() == 1 << 20);
}
