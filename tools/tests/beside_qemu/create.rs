//! `create`: the line it prints, what it refuses, and images that the real tools accept.

use testkit::Qemu;

use crate::gallery::Gallery;
use crate::pair::{qimg, same, same_answer};

#[test]
fn new_images_are_announced_alike_and_sound() {
    let gallery = Gallery::new();
    let path = gallery.path("new.img");
    for options in [
        &["1.5M"][..],
        &["-f", "qcow2", "1M"],
        &["-f", "qcow2", "1.3k"],
        &["-f", "qcow2", "64b"],
        &["-f", "qcow2", "0"],
        &["-f", "qcow2", "0x100000"],
        &["-f", "qcow2", "-o", "size=1M"],
        &["-f", "qcow2", "-o", "compat=v2", "1M"],
        &["-f", "qcow2", "-o", "compat=0.10,cluster_size=512", "100M"],
        &["-f", "qcow2", "-o", "cluster_size=2M", "-o", "lazy_refcounts=on", "10T"],
        &["-f", "qcow2", "-o", "compression_type=zstd,lazy_refcounts", "1G"],
        &["-f", "qcow2", "-b", "base.raw", "-F", "raw"],
        &["-f", "qcow2", "-b", "base.raw", "-F", "raw", "5M"],
        &["-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2"],
        &["-f", "qcow2", "-u", "-b", "nosuch", "-F", "raw", "1M"],
        &["-f", "qcow2", "-o", "backing_file=base.raw,backing_fmt=raw"],
    ] {
        let size =
            if options.last().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
                1
            } else {
                0
            };
        let (flags, size) = options.split_at(options.len() - size);
        let args = [&["create"], flags, &[&*path], size].concat();
        same(&args);
        if flags.contains(&"qcow2") {
            let info = Qemu::info_json("qcow2", path.as_ref());
            qimg(&args).success();
            assert_eq!(
                Qemu::info_json("qcow2", path.as_ref())["virtual-size"],
                info["virtual-size"]
            );
        }
    }
}

#[test]
fn what_we_make_is_what_the_real_tool_makes() {
    let gallery = Gallery::new();
    for options in ["", "cluster_size=512", "cluster_size=2M", "compat=0.10", "lazy_refcounts=on"] {
        let (ours, theirs) = (gallery.path("ours.qcow2"), gallery.path("theirs.qcow2"));
        let options =
            if options.is_empty() { "size=100M".into() } else { format!("size=100M,{options}") };
        qimg(&["create", "-q", "-f", "qcow2", "-o", &options, &ours]).success();
        Qemu::img(["create", "-q", "-f", "qcow2", "-o", &options, &theirs]).success();
        Qemu::check(ours.as_ref());
        let facts = |path: &String| {
            let mut info = Qemu::info_json("qcow2", path.as_ref());
            info.as_object_mut().unwrap().remove("filename");
            (
                info["format-specific"].clone(),
                info["virtual-size"].clone(),
                info["cluster-size"].clone(),
            )
        };
        assert_eq!(facts(&ours), facts(&theirs));
    }
}

#[test]
fn help_lists_the_same_options() {
    for args in [
        &["create", "-f", "qcow2", "-o", "help"][..],
        &["create", "-f", "qcow2", "-o", "help", "x"],
        &["create", "-f", "qcow2", "-o", "?", "x"],
        &["create", "-f", "raw", "-o", "help"],
        &["create", "-f", "raw", "-o", "size=1,help", "x"],
        &["convert", "-O", "qcow2", "-o", "help"],
    ] {
        same(args);
    }
}

#[test]
fn impossible_options_are_refused_alike() {
    let gallery = Gallery::new();
    let path = gallery.path("new.qcow2");
    for options in [
        "foo=1",
        "cluster_size=100",
        "cluster_size=4M",
        "compat=0.11",
        "lazy_refcounts=maybe",
        "compat=0.10,lazy_refcounts=on",
        "compat=0.10,compression_type=zstd",
        "compression_type=lz",
        "size=2M",
        "refcount_bits=foo",
    ] {
        same(&["create", "-f", "qcow2", "-o", options, &path, "1M"]);
    }
    for size in ["9E", "-1", "8192P", "8191P"] {
        same(&["create", "-f", "qcow2", &path, "--", size]);
    }
    same(&["create", "-f", "qcow2", "-o", "cluster_size=512", &path, "1P"]);
    same(&["create", "-f", "qcow2", &path]);
    same(&["create", "-f", "foo", &path, "1M"]);
    same(&["create", "-f", "qcow2", "-F", "raw", &path, "1M"]);
    same(&["create", "-f", "qcow2", "-b", "", "-F", "raw", &path, "1M"]);
    same(&["create", "-f", "raw", "-b", "base.raw", "-F", "raw", &path, "1M"]);
    same(&["create", "-f", "qcow2", "-u", "-b", "base.raw", "-F", "raw", &path]);
    same(&["create", "-f", "qcow2", "-b", &path, "-F", "qcow2", &path, "1M"]);
    same(&["create", "-f", "qcow2", &gallery.path("nosuch/x"), "1M"]);
    same_answer(&["create", "-f", "qcow2", &path, "1Z"]);
    for list in ["", ",", ",,", "cluster_size=4k,", ",,cluster_size=4k", "backing_file=x,,,"] {
        same_answer(&["create", "-f", "qcow2", "-u", "-o", list, &path, "1M"]);
    }
    assert!(!gallery.folder().path("new.qcow2").exists());
}

#[test]
fn options_not_offered_leave_the_file_alone() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    let before = std::fs::read(&path).unwrap();
    for option in [
        "extended_l2=on",
        "refcount_bits=1",
        "data_file=x",
        "encrypt.format=luks",
        "encryption=on",
        "preallocation=full",
        "nocow=on",
    ] {
        let ours = qimg(&["create", "-f", "qcow2", "-o", option, &path, "1M"]).exits(1);
        let name = option.split('=').next().unwrap();
        assert!(ours.stderr.contains(name) && ours.stderr.contains("not offered yet"), "{ours:?}");
        assert_eq!(ours.stdout, "");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_missing_format_or_file_below_is_named() {
    let gallery = Gallery::new();
    let path = gallery.path("new.qcow2");
    qimg(&["create", "-f", "qcow2", "-b", "base.raw", &path])
        .exits(1)
        .fails_with("Backing file specified without backing format (-F FMT; looks like raw)");
    qimg(&["create", "-f", "qcow2", "-b", "nosuch", "-F", "raw", &path])
        .exits(1)
        .fails_with("No such file or directory");
    assert!(!gallery.folder().path("new.qcow2").exists());
}

#[test]
fn an_image_nobody_hears_of_is_made() {
    let gallery = Gallery::new();
    let path = gallery.path("unheard.qcow2");
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_qimg"));
    program.args(["create", "-f", "qcow2", &path, "1M"]).stdout(crate::pair::nobody_reads());
    assert_eq!(program.status().unwrap().code(), Some(0));
    Qemu::check(path.as_ref());
}
