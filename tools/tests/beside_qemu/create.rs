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
        &["-f", "qcow2", "-o", "extended_l2=on,refcount_bits=0x40,cluster_size=16k", "1G"],
        &["-f", "qcow2", "-o", "preallocation=metadata,nocow=on,extent_size_hint=2M", "10M"],
        &["-f", "qcow2", "-o", "preallocation=falloc,nocow=off", "10M"],
        &["-f", "qcow2", "-o", "preallocation=full,extended_l2,extent_size_hint=0", "10M"],
        &["-f", "raw", "-o", "preallocation=full", "1M"],
        &["-f", "raw", "-o", "preallocation=falloc,nocow=on", "0"],
        &["-f", "raw", "-o", "preallocation=off,extent_size_hint=4k", "70000"],
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
    let (path, data) = (gallery.path("new.qcow2"), gallery.path("new.raw"));
    let data = data.replace(',', ",,");
    let base = gallery.path("base.raw");
    for options in [
        "",
        "cluster_size=512",
        "cluster_size=2M",
        "compat=0.10",
        "lazy_refcounts=on",
        "compression_type=zstd,refcount_bits=1",
        "extended_l2=on,cluster_size=16k,refcount_bits=64",
        "cluster_size=1k,refcount_bits=64",
        &format!("data_file={data}"),
        &format!("data_file={data},data_file_raw=on,cluster_size=2M"),
        &format!("data_file={data},data_file_raw=on,extended_l2=on,refcount_bits=2"),
        &format!("data_file={data},backing_file={base},backing_fmt=raw"),
        &format!("extended_l2=on,backing_file={base},backing_fmt=raw"),
    ] {
        let options = format!("size=100M,{options}");
        let args = ["create", "-q", "-f", "qcow2", "-o", options.trim_end_matches(','), &path];
        let made = || {
            let files = [&path, &data].map(|path| std::fs::read(path).ok());
            for path in [&path, &data] {
                let _ = std::fs::remove_file(path);
            }
            files
        };
        Qemu::img(args).success();
        let theirs = made();
        qimg(&[&args[..], &["--no-pin"]].concat()).success();
        Qemu::check(path.as_ref());
        assert!(made() == theirs, "{options}");
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
        "size=2M",
        "refcount_bits=foo",
        "preallocation=on",
        "extended_l2=on,cluster_size=8k,compat=1.1",
        "data_file=/nosuch/data",
        "data_file=/dev",
        "data_file=",
    ] {
        same(&["create", "-f", "qcow2", "-o", options, &path, "1M"]);
    }
    for mode in ["metadata", "foo"] {
        same(&["create", "-f", "raw", "-o", &format!("preallocation={mode}"), &path, "1M"]);
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

/// Mistakes of which each has its words, and qemu-img an order in which it looks for them.
const MISTAKES: [&[(&str, &str)]; 17] = [
    &[("compat", "0.11")],
    &[("preallocation", "bogus")],
    &[("compression_type", "lz")],
    &[("compat", "0.10"), ("extended_l2", "on")],
    &[("cluster_size", "8k"), ("extended_l2", "on")],
    &[("cluster_size", "3k")],
    &[("preallocation", "metadata"), ("backing_file", "base.raw"), ("backing_fmt", "raw")],
    &[("backing_fmt", "raw")],
    &[("compat", "0.10"), ("lazy_refcounts", "on")],
    &[("refcount_bits", "7")],
    &[("refcount_bits", "128")],
    &[("refcount_bits", "8"), ("compat", "0.10")],
    &[("data_file_raw", "on")],
    &[
        ("data_file_raw", "on"),
        ("data_file", "data"),
        ("backing_file", "base.raw"),
        ("backing_fmt", "raw"),
    ],
    &[("data_file", "data"), ("compat", "0.10")],
    &[("compression_type", "zstd"), ("compat", "0.10")],
    &[("size", "8191P")],
];

#[test]
fn of_two_mistakes_the_same_one_is_named() {
    let gallery = Gallery::new();
    let (path, data) = (gallery.path("new.qcow2"), gallery.path("data"));
    let mut pairs = 0;
    for (number, first) in MISTAKES.iter().enumerate() {
        for second in &MISTAKES[number..] {
            let mut options = std::collections::BTreeMap::from([("size", "1M")]);
            let contradicts = second.iter().any(|(name, value)| {
                first.iter().any(|(other, wanted)| name == other && value != wanted)
            });
            if contradicts {
                continue;
            }
            options.extend(first.iter().chain(*second).copied());
            let list: Vec<String> = options
                .into_iter()
                .map(|(name, value)| match name {
                    "data_file" => format!("{name}={data}"),
                    _ => format!("{name}={value}"),
                })
                .collect();
            same(&["create", "-f", "qcow2", "-o", &list.join(","), &path]);
            assert!(!gallery.folder().path("new.qcow2").exists(), "{list:?}");
            assert!(!gallery.folder().path("data").exists(), "{list:?}");
            pairs += 1;
        }
    }
    assert!(pairs > 100, "{pairs}");
}

#[test]
fn encryption_is_not_offered_and_leaves_the_file_alone() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    let before = std::fs::read(&path).unwrap();
    for option in ["encrypt.format=luks", "encryption=on", "encrypt.key-secret=s"] {
        let ours = qimg(&["create", "-f", "qcow2", "-o", option, &path, "1M"]).exits(1);
        let name = option.split('=').next().unwrap();
        assert!(ours.stderr.contains(name) && ours.stderr.contains("not offered yet"), "{ours:?}");
        assert_eq!(ours.stdout, "");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_data_file_is_never_something_else_too() {
    let gallery = Gallery::new();
    let (top, base) = (gallery.path("top.qcow2"), gallery.path("base.raw"));
    std::fs::hard_link(&base, gallery.folder().path("link.raw")).unwrap();
    let link = gallery.path("link.raw");
    let (new, deep) = (gallery.path("new.qcow2"), gallery.path("deep.qcow2"));
    let before = [&top, &base].map(|path| std::fs::read(path).unwrap());
    let (roundabout, option) =
        (gallery.path("sub/../new.qcow2"), |path: &str| format!("size=1M,data_file={path}"));
    for (data, target, backing) in [
        (&top, &top, None),
        (&new, &new, None),
        (&roundabout, &new, None),
        (&base, &new, Some(&base)),
        (&link, &new, Some(&base)),
        (&base, &new, Some(&deep)), // two layers further down
        (&new, &base, Some(&deep)),
    ] {
        let option = option(data);
        let mut args = vec!["create", "-q", "-f", "qcow2", "-o", &option];
        let format = if backing == Some(&deep) { "qcow2" } else { "raw" };
        args.extend(backing.iter().flat_map(|backing| ["-F", format, "-b", backing]));
        args.push(target);
        let ours = qimg(&args).exits(1);
        assert!(ours.stderr.contains("the same filename as"), "{ours:?}");
    }
    let link = gallery.path("link.qcow2");
    std::fs::hard_link(&top, &link).unwrap();
    qimg(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &top, &link])
        .exits(1)
        .fails_with("the same filename as the backing file");
    assert!(before == [&top, &base].map(|path| std::fs::read(path).unwrap()));
    assert!(!gallery.folder().path("new.qcow2").exists());
}

#[test]
fn a_failure_leaves_no_file_behind() {
    let gallery = Gallery::new();
    let (new, data) = (gallery.path("new.qcow2"), gallery.path("new.raw"));
    let exists = |name: &str| gallery.folder().path(name).exists();
    // Nobody lends a data file that somebody uses.
    let top = gallery.path("top.qcow2");
    let session = testkit::IoSession::start(["-f", "qcow2", &top]).unwrap();
    let option = format!("data_file={top}");
    qimg(&["create", "-q", "-f", "qcow2", "-o", &option, &new, "1M"]).exits(1).fails_with("lock");
    same_answer(&["create", "-f", "qcow2", "-o", &option, &new, "1M"]);
    assert!(!exists("new.qcow2"));
    drop(session);
    // More than any file of this file system may have.
    let option = format!("data_file={data}");
    same(&["create", "-f", "qcow2", "-o", &option, &new, "1024T"]);
    same(&["create", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=2M", &new, "8E"]);
    assert!(!exists("new.qcow2") && !exists("new.raw"));
    same(&["create", "-f", "raw", &data, "4096T"]);
    assert!(!exists("new.raw"));
}

#[test]
fn space_that_is_not_there_leaves_no_file_behind() {
    // Memory refuses what it does not have at once. A disk first gives all it has, and whoever else
    // writes to it in that moment finds it full.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for (format, size) in [("qcow2", "16T"), ("raw", "10T")] {
        let new = elsewhere.path().join("new");
        let path = new.to_str().unwrap();
        same_answer(&["create", "-f", format, "-o", "preallocation=falloc", path, size]);
        assert!(!new.exists());
    }
}

#[test]
fn space_is_taken_when_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let gallery = Gallery::new();
    let (new, data) = (gallery.path("new"), gallery.path("data"));
    for (format, mode, takes) in [
        ("raw", "off", false),
        ("raw", "falloc", true),
        ("raw", "full", true),
        ("qcow2", "metadata", false),
        ("qcow2", "falloc", true),
        ("qcow2", "full", true),
    ] {
        let option = format!("preallocation={mode}");
        qimg(&["create", "-q", "-f", format, "-o", &option, &new, "4M"]).success();
        let blocks = std::fs::metadata(&new).unwrap().blocks();
        assert_eq!(blocks * 512 >= 4 << 20, takes, "{format} {mode}: {blocks}");
        if format == "qcow2" {
            Qemu::check(new.as_ref());
            let option = format!("{option},data_file={data}");
            qimg(&["create", "-q", "-f", format, "-o", &option, &new, "4M"]).success();
            let found = std::fs::metadata(&data).unwrap();
            assert_eq!((found.len(), found.blocks() * 512 >= 4 << 20), (4 << 20, takes));
        }
    }
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
