//! `convert`: contents, sparseness and refusals.

use std::os::unix::fs::MetadataExt;

use testkit::Qemu;

use crate::gallery::{Gallery, READABLE};
use crate::pair::{nobody_reads, qimg, same};

#[test]
fn every_image_to_raw() {
    let gallery = Gallery::new();
    for flags in [&[][..], &["-S", "0"], &["-S", "64k", "-m", "1"], &["-W", "-m", "16"], &["-C"]] {
        for (name, format) in READABLE {
            let (ours, theirs) = (gallery.path("ours.raw"), gallery.path("theirs.raw"));
            let from = gallery.path(name);
            let args =
                |to| [&["convert", "-f", format, "-O", "raw"], flags, &[&*from, to]].concat();
            qimg(&args(&ours)).success();
            Qemu::img(args(&theirs)).success();
            assert!(
                std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap(),
                "{name} with {flags:?} differs"
            );
            let blocks = |path| std::fs::metadata(path).unwrap().blocks();
            assert!(blocks(&ours) <= blocks(&theirs) + 8, "{name} with {flags:?} is inflated");
        }
    }
}

#[test]
fn every_image_to_qcow2() {
    let gallery = Gallery::new();
    for options in ["compat=1.1", "cluster_size=512", "cluster_size=2M", "compat=0.10"] {
        for (name, format) in READABLE {
            let (from, to) = (gallery.path(name), gallery.path("ours.qcow2"));
            qimg(&["convert", "-f", format, "-O", "qcow2", "-o", options, &from, &to]).success();
            Qemu::check(to.as_ref());
            Qemu::assert_same((format, from.as_ref()), ("qcow2", to.as_ref()));
        }
    }
}

#[test]
fn every_image_compressed() {
    let gallery = Gallery::new();
    for options in ["compression_type=zlib", "compression_type=zstd", "cluster_size=2M"] {
        for (name, format) in READABLE {
            let (from, to) = (gallery.path(name), gallery.path("ours.qcow2"));
            let flags = ["convert", "-c", "-f", format, "-O", "qcow2", "-o", options];
            qimg(&[&flags[..], &[&*from, &to]].concat()).success();
            Qemu::check(to.as_ref());
            Qemu::assert_same((format, from.as_ref()), ("qcow2", to.as_ref()));
        }
    }
}

#[test]
fn empty_clusters_stay_unallocated() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("sparse.raw"), gallery.path("sparse.qcow2"));
    gallery.create(&["-f", "raw"], "sparse.raw", "64G");
    gallery.io("raw", "sparse.raw", &["write -P 1 5G 4k", "write -P 0 6G 1M"]);
    qimg(&["convert", "-f", "raw", "-O", "qcow2", &from, &to]).success();
    let check = qimg(&["check", "--output=json", &to]).success().json();
    assert_eq!(check["allocated-clusters"], 1);
    let back = gallery.path("back.raw");
    qimg(&["convert", "-f", "qcow2", &to, &back]).success();
    assert!(std::fs::metadata(&back).unwrap().blocks() < 1000);
    assert_eq!(std::fs::metadata(&back).unwrap().len(), 64 << 30);
    Qemu::assert_same(("raw", from.as_ref()), ("raw", back.as_ref()));
}

#[test]
fn several_sources_follow_each_other() {
    let gallery = Gallery::new();
    let names = ["deep.qcow2", "odd.raw", "compressed.qcow2", "empty.raw", "base.raw"];
    let from: Vec<String> = names.iter().map(|name| gallery.path(name)).collect();
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    let (ours, theirs) = (gallery.path("ours.raw"), gallery.path("theirs.raw"));
    qimg(&[&["convert"], &*from, &[&*ours]].concat()).success();
    Qemu::img([&["convert"], &*from, &[&*theirs]].concat()).success();
    assert!(std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap());
    let joined = gallery.path("joined.qcow2");
    qimg(&[&["convert", "-O", "qcow2"], &*from, &[&*joined]].concat()).success();
    Qemu::check(joined.as_ref());
    Qemu::assert_same(("raw", theirs.as_ref()), ("qcow2", joined.as_ref()));
}

#[test]
fn over_a_backing_file_only_what_the_top_holds_is_copied() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("top.qcow2"), gallery.path("ours.qcow2"));
    let theirs = gallery.path("theirs.qcow2");
    for sparse in ["4k", "0"] {
        let flags = ["convert", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "-S", sparse];
        qimg(&[&flags[..], &[&*from, &to]].concat()).success();
        Qemu::img([&flags[..], &[&*from, &theirs]].concat()).success();
        Qemu::check(to.as_ref());
        Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
        let (ours, theirs) = (to.as_ref(), theirs.as_ref());
        assert_eq!(Qemu::map_json("qcow2", ours), Qemu::map_json("qcow2", theirs), "-S {sparse}");
    }
}

#[test]
fn an_existing_target_is_filled() {
    let gallery = Gallery::new();
    let from = gallery.path("deep.qcow2");
    for format in ["raw", "qcow2"] {
        let to = gallery.path("existing");
        gallery.create(&["-f", format], "existing", "4M");
        gallery.io(format, "existing", &["write -P 0xee 0 4M"]);
        qimg(&["convert", "-n", "-O", format, &from, &to]).success();
        let verify = ["-c", "read -P 0xee 3M 1M", "-c", "read -P 0 2600k 100k"];
        let args = [&["-f", format], &verify[..], &[&*to]].concat();
        let read = Qemu::io(args).success();
        assert!(!read.stdout.contains("failed"), "{read:?}");
    }
    same(&["convert", "-n", "-O", "raw", &from, &gallery.path("odd.raw")]);
}

#[test]
fn flags_that_do_not_go_together_are_refused_alike() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("top.qcow2"), gallery.path("new"));
    for flags in [
        &["-O", "foo"][..],
        &["-m", "0"],
        &["-m", "17"],
        &["-m", "a"],
        &["-S", "5"],
        &["-S", "32M"],
        &["-S", "foo"],
        &["-c"],
        &["--target-is-zero"],
        &["-C", "-S", "1k"],
        &["-C", "-c"],
        &["-t", "bad"],
        &["-T", "bad"],
        &["-B", "base.raw"],
        &["-B", "base.raw", "-O", "qcow2"],
        &["-F", "raw", "-O", "qcow2"],
        &["-n", "-o", "size=1"],
        &["-o", "foo=1"],
        &["-r", "x"],
        &["--skip-broken-bitmaps"],
        &["--target-image-opts"],
        &["--salvage", "-C"],
    ] {
        same(&[&["convert"], flags, &[&*from, &*to]].concat());
    }
    same(&["convert", &from]);
    same(&["convert", &gallery.path("nosuch"), &to]);
    same(&["convert", &from, &gallery.path("nosuch/x")]);
    assert!(!gallery.folder().path("new").exists());
}

#[test]
fn progress_ends_at_a_hundred_percent() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("deep.qcow2"), gallery.path("new"));
    let ours = qimg(&["convert", "-p", &from, &to]).success();
    assert!(ours.stdout.starts_with("    (0.00/100%)\r"), "{ours:?}");
    assert!(ours.stdout.ends_with("    (100.00/100%)\r\n"), "{ours:?}");
    assert_eq!(ours.stderr, "");
    let quiet = qimg(&["convert", "-p", "-q", &from, &to]).success();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn a_copy_nobody_watches_is_finished() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("deep.qcow2"), gallery.path("new"));
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_qimg"));
    program.args(["convert", "-p", "-O", "qcow2", &from, &to]).stdout(nobody_reads());
    assert_eq!(program.status().unwrap().code(), Some(0));
    Qemu::check(to.as_ref());
    Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
}

#[test]
fn a_copy_never_goes_over_a_file_it_is_made_from() {
    let gallery = Gallery::new();
    let (base, top) = (gallery.path("own-base.raw"), gallery.path("own-top.qcow2"));
    let link = gallery.path("own-link.raw");
    qimg(&["create", "-q", "-f", "raw", &base, "1M"]).success();
    Qemu::io(["-f", "raw", "-c", "write -P 7 0 1M", &base]).success();
    qimg(&["create", "-q", "-f", "qcow2", "-b", "own-base.raw", "-F", "raw", &top]).success();
    std::os::unix::fs::symlink(&base, &link).expect("a link");
    let before = std::fs::read(&base).expect("the base");
    for target in [&base, &link, &top] {
        for flags in [&[][..], &["-U"], &["-n"], &["-U", "-n"]] {
            let args = [&["convert"], flags, &["-f", "qcow2", "-O", "raw", &*top, target]].concat();
            let ours = qimg(&args).exits(1);
            assert_eq!(ours.stderr.lines().count(), 1, "{ours:?}");
            assert!(std::fs::read(&base).expect("the base") == before, "{args:?}");
        }
    }
    Qemu::check(top.as_ref());
}
