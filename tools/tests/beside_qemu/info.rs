//! `info`: byte for byte what the real tool prints, members in its order.

use testkit::Qemu;

use crate::gallery::{Gallery, READABLE};
use crate::pair::{qimg, same, same_answer};

#[test]
fn every_image_is_described_alike() {
    let gallery = Gallery::new();
    for (name, format) in READABLE {
        let path = gallery.path(name);
        for output in ["--output=human", "--output=json"] {
            same(&["info", output, &path]);
            same(&["info", output, "-f", format, "-U", &path]);
            same(&["info", output, "--backing-chain", &path]);
        }
    }
}

#[test]
fn options_of_the_format_are_described_alike() {
    let gallery = Gallery::new();
    for (name, options) in [
        ("a.qcow2", "lazy_refcounts=on,compression_type=zstd,cluster_size=4k"),
        ("b.qcow2", "extended_l2=on,refcount_bits=1"),
        ("c.qcow2", "compat=0.10"),
    ] {
        gallery.create(&["-f", "qcow2", "-o", options], name, "64M");
        same(&["info", &gallery.path(name)]);
        same(&["info", "--output", "json", &gallery.path(name)]);
    }
}

#[test]
fn snapshots_and_bitmaps_are_described_alike() {
    let gallery = Gallery::new();
    let path = gallery.path("zero.qcow2");
    Qemu::img(["snapshot", "-c", "first", &path]).success();
    Qemu::img(["snapshot", "-c", "second", &path]).success();
    Qemu::img(["bitmap", "--add", &path, "b0"]).success();
    Qemu::img(["bitmap", "--add", "--disable", "-g", "4k", &path, "b1"]).success();
    same(&["info", "--output=json", &path]);
    if std::env::var_os("TZ").is_none() && !std::path::Path::new("/etc/localtime").exists() {
        same(&["info", &path]); // times are told in UTC here
    }
}

#[test]
fn names_of_all_kinds_lead_to_the_image() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    let json =
        format!(r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{path}"}}}}"#);
    let list = format!("driver=qcow2,file.driver=file,file.filename={path}");
    same(&["info", &json]);
    same(&["info", "--image-opts", &list]);
    same(&["info", &format!("file:{path}")]);
    let strange = gallery.path("a\u{e9}\"\\\t\u{1F600}.qcow2");
    std::fs::copy(&path, &strange).unwrap();
    same(&["info", "--output=json", &strange]);
}

#[test]
fn failures_have_the_same_code() {
    let gallery = Gallery::new();
    let (raw, top) = (gallery.path("base.raw"), gallery.path("top.qcow2"));
    let nosuch = gallery.path("nosuch");
    same(&["info", &nosuch]);
    same_answer(&["info", "-f", "qcow2", &raw]);
    same_answer(&["info", "-f", "foo", &raw]);
    same_answer(&["info", gallery.folder().root().to_str().unwrap()]);
    same_answer(&["info", "--image-opts", "-f", "qcow2", &top]);
    same_answer(&["info", "--image-opts", "foo"]);
}

#[test]
fn a_missing_backing_file_matters_only_to_those_who_follow_it() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    std::fs::remove_file(gallery.folder().path("base.raw")).unwrap();
    same(&["info", &path]);
    same_answer(&["info", "--backing-chain", &path]);
    qimg(&["map", &path]).exits(1).fails_with("Could not open backing file: Could not open");
}

#[test]
fn a_loop_ends_with_an_error() {
    let gallery = Gallery::new();
    let (a, b) = (gallery.path("a.qcow2"), gallery.path("b.qcow2"));
    gallery.create(&["-f", "qcow2"], "b.qcow2", "1M");
    gallery.create(&["-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2"], "a.qcow2", "1M");
    Qemu::img(["rebase", "-u", "-b", "a.qcow2", "-F", "qcow2", &b]).success();
    qimg(&["info", "--backing-chain", &a]).exits(1).fails_with("creates an infinite loop");
    for verb in ["map", "check"] {
        let ours = qimg(&[verb, &a]);
        assert!(ours.stderr.lines().count() <= 1, "{ours:?}");
    }
    qimg(&["map", &a]).exits(1).fails_with("is already in the chain");
}
