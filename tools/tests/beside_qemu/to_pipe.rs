//! `convert` to standard output: contents, refusals, and readers that go away.

use std::fs::File;
use std::process::{Command, Stdio};

use testkit::{Output, Qemu};

use crate::gallery::{Gallery, READABLE};
use crate::pair::{nobody_reads, qimg};

/// Runs our `qimg convert` with standard output going into a file of the folder.
fn convert_into(gallery: &Gallery, name: &str, args: &[&str]) -> Output {
    let file = File::create(gallery.path(name)).expect("a file can be made");
    finish(args, file.into())
}

fn finish(args: &[&str], stdout: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qimg"));
    command.arg("convert").args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let line = format!("{command:?}");
    let output = command.output().expect("qimg starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Output { command: line, code: output.status.code(), stdout: String::new(), stderr }
}

#[test]
fn every_image_as_raw_bytes() {
    let gallery = Gallery::new();
    for (name, format) in READABLE {
        let (from, theirs) = (gallery.path(name), gallery.path("theirs.raw"));
        let flags = ["-f", format, "-O", "raw"];
        convert_into(&gallery, "ours.raw", &[&flags[..], &[&*from, "-"]].concat()).success();
        Qemu::img([&["convert"], &flags[..], &[&*from, &*theirs]].concat()).success();
        let (ours, theirs) =
            (gallery.folder().read("ours.raw"), gallery.folder().read("theirs.raw"));
        assert!(ours == theirs, "{name} differs");
    }
}

#[test]
fn every_image_as_an_image() {
    let gallery = Gallery::new();
    for options in
        ["compat=1.1", "cluster_size=512", "cluster_size=2M,refcount_bits=1", "compat=0.10"]
    {
        for (name, format) in READABLE {
            let (from, to) = (gallery.path(name), gallery.path("ours.qcow2"));
            let args = ["-f", format, "-O", "qcow2", "-o", options, &from, "-"];
            let said = convert_into(&gallery, "ours.qcow2", &args).success();
            assert_eq!(said.stderr, "");
            Qemu::check(to.as_ref());
            Qemu::assert_same((format, from.as_ref()), ("qcow2", to.as_ref()));
        }
    }
}

#[test]
fn extended_entries_and_full_allocation_are_possible() {
    let gallery = Gallery::new();
    let (from, to) = (gallery.path("deep.qcow2"), gallery.path("ours.qcow2"));
    for flags in
        [&["-o", "extended_l2=on"][..], &["-S", "0"], &["-m", "1"], &["-o", "lazy_refcounts=on"]]
    {
        let args = [&["-O", "qcow2"], flags, &[&*from, "-"]].concat();
        convert_into(&gallery, "ours.qcow2", &args).success();
        Qemu::check(to.as_ref());
        Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
    }
    convert_into(&gallery, "ours.qcow2", &["-O", "qcow2", "-S", "0", &from, "-"]).success();
    let check = qimg(&["check", "--output=json", &to]).success().json();
    assert_eq!(check["allocated-clusters"], check["total-clusters"]);
}

#[test]
fn over_a_backing_file_only_what_the_top_holds_goes_out() {
    let gallery = Gallery::new();
    let (from, base) = (gallery.path("top.qcow2"), gallery.path("base.raw"));
    for extended in ["off", "on"] {
        let option = format!("extended_l2={extended}");
        let args = ["-O", "qcow2", "-B", &base, "-F", "raw", "-o", &option, &from, "-"];
        convert_into(&gallery, "ours.qcow2", &args).success();
        let (to, theirs) = (gallery.path("ours.qcow2"), gallery.path("theirs.qcow2"));
        Qemu::check(to.as_ref());
        Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
        let to_file = [&["convert"], &args[..args.len() - 1], &[&*theirs]].concat();
        Qemu::img(to_file).success();
        let depths = |path: &str| -> Vec<(u64, u64, u64)> {
            let map = Qemu::map_json("qcow2", path.as_ref());
            let number = |row: &testkit::Json, key: &str| row[key].as_u64().expect("a number");
            let rows = map.as_array().expect("rows").iter();
            rows.map(|row| (number(row, "start"), number(row, "length"), number(row, "depth")))
                .collect()
        };
        if extended == "off" {
            assert_eq!(depths(&to), depths(&theirs));
        }
    }
}

#[test]
fn several_sources_follow_each_other_through_a_pipe() {
    let gallery = Gallery::new();
    let from =
        ["deep.qcow2", "odd.raw", "compressed.qcow2", "empty.raw"].map(|name| gallery.path(name));
    let from: Vec<&str> = from.iter().map(String::as_str).collect();
    convert_into(&gallery, "ours.qcow2", &[&["-O", "qcow2"], &*from, &["-"]].concat()).success();
    let (ours, theirs) = (gallery.path("ours.qcow2"), gallery.path("theirs.raw"));
    Qemu::img([&["convert"], &*from, &[&*theirs]].concat()).success();
    Qemu::check(ours.as_ref());
    Qemu::assert_same(("raw", theirs.as_ref()), ("qcow2", ours.as_ref()));
}

#[test]
fn percentages_stay_out_of_the_data() {
    let gallery = Gallery::new();
    let from = gallery.path("deep.qcow2");
    let said = convert_into(&gallery, "ours.qcow2", &["-p", "-O", "qcow2", &from, "-"]).success();
    assert!(said.stderr.starts_with("    (0.00/100%)\r"), "{said:?}");
    assert!(said.stderr.ends_with("    (100.00/100%)\r\n"), "{said:?}");
    Qemu::check(gallery.path("ours.qcow2").as_ref());
}

#[test]
fn a_reader_that_went_away_is_an_error_in_one_line() {
    let gallery = Gallery::new();
    let from = gallery.path("deep.qcow2");
    for format in ["raw", "qcow2"] {
        let said = finish(&["-O", format, &from, "-"], nobody_reads()).exits(1);
        assert_eq!(
            said.stderr,
            "qimg: standard output was closed after 0 bytes: whoever reads it has only part of the \
             copy\n"
        );
    }
    let full = File::options().write(true).open("/dev/full").expect("a device without space");
    let said = finish(&["-O", "raw", &from, "-"], full.into()).exits(1);
    assert_eq!(
        said.stderr,
        "qimg: error while writing at byte 0 of standard output: No space left on device\n"
    );
}

#[test]
fn what_cannot_go_into_a_pipe_is_named() {
    let gallery = Gallery::new();
    let from = gallery.path("top.qcow2");
    for (flags, words) in [
        (&["-c"][..], "-c cannot go to standard output"),
        (&["-n"], "-n needs a target that exists"),
        (&["-W"], "-W writes in any order"),
        (&["-S", "64k"], "-S cannot look for zeros"),
        (&["-o", "preallocation=metadata"], "preallocation is not possible"),
        (&["-o", "data_file=x.raw"], "data_file is not possible"),
        (&["-o", "cluster_size=3k"], "Cluster size must be a power of two"),
        (&["-B", "nosuch", "-F", "raw"], "Could not open 'nosuch'"),
    ] {
        let args = [&["-O", "qcow2"], flags, &[&*from, "-"]].concat();
        let said = convert_into(&gallery, "ours", &args).exits(1).fails_with(words);
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        assert_eq!(gallery.folder().read("ours").len(), 0, "{args:?}");
    }
}

#[test]
fn a_file_can_be_called_as_a_pipe_is() {
    let gallery = Gallery::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_qimg"));
    command.current_dir(gallery.folder().root());
    command.args(["convert", "-O", "qcow2", "base.raw", "./-"]);
    assert!(command.status().expect("qimg starts").success());
    Qemu::check(&gallery.folder().path("-"));
}
