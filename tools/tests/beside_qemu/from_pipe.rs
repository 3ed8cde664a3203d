//! `convert` from standard input: contents, refusals, and pipes on both sides.

use std::fs::File;
use std::process::{Command, Stdio};

use testkit::{Output, Qemu};

use crate::gallery::Gallery;

/// Runs our `qimg convert` with a file of the folder on standard input.
fn convert_from(gallery: &Gallery, name: &str, args: &[&str]) -> Output {
    let file = File::open(gallery.path(name)).expect("a file is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_qimg"));
    command.arg("convert").args(args).stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = format!("{command:?}");
    let output = command.output().expect("qimg starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Output { command: line, code: output.status.code(), stdout, stderr }
}

#[test]
fn raw_bytes_become_any_image() {
    let gallery = Gallery::new();
    for name in ["base.raw", "odd.raw", "empty.raw"] {
        for (format, flags) in [
            ("raw", &[][..]),
            ("raw", &["-S", "0"]),
            ("qcow2", &[]),
            ("qcow2", &["-S", "0"]),
            ("qcow2", &["-c"]),
            ("qcow2", &["-c", "-o", "compression_type=zstd,cluster_size=4k"]),
            ("qcow2", &["-o", "compat=0.10"]),
            ("qcow2", &["-o", "extended_l2=on,lazy_refcounts=on"]),
        ] {
            let (from, to) = (gallery.path(name), gallery.path("to"));
            let args = [&["-f", "raw", "-O", format], flags, &["-", &*to]].concat();
            let said = convert_from(&gallery, name, &args).success();
            assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
            if format == "qcow2" {
                Qemu::check(to.as_ref());
            }
            Qemu::assert_same(("raw", from.as_ref()), (format, to.as_ref()));
            std::fs::remove_file(&to).expect("a target");
        }
    }
}

#[test]
fn bytes_are_counted() {
    let gallery = Gallery::new();
    let to = gallery.path("to");
    let said = convert_from(&gallery, "base.raw", &["-p", "-f", "raw", "-", &to]).success();
    assert_eq!(said.stdout, "    (1048576 bytes)\r\n");
}

#[test]
fn an_existing_target_is_filled_from_a_pipe() {
    let gallery = Gallery::new();
    for format in ["raw", "qcow2"] {
        let to = gallery.path("existing");
        gallery.create(&["-f", format], "existing", "2M");
        gallery.io(format, "existing", &["write -P 0xee 0 2M"]);
        convert_from(&gallery, "base.raw", &["-n", "-f", "raw", "-O", format, "-", &to]).success();
        let verify = ["-c", "read -P 0xee 1M 1M", "-c", "read -P 0 256k 100k"];
        let read = Qemu::io([&["-f", format], &verify[..], &[&*to]].concat()).success();
        assert!(!read.stdout.contains("failed"), "{read:?}");
        gallery.create(&["-f", format], "existing", "512k");
        convert_from(&gallery, "base.raw", &["-n", "-f", "raw", "-O", format, "-", &to])
            .exits(1)
            .fails_with("output file is smaller than input file");
    }
}

#[test]
fn what_a_pipe_does_not_tell_is_named() {
    let gallery = Gallery::new();
    let (to, base) = (gallery.path("to"), gallery.path("base.raw"));
    for (flags, files, words) in [
        (&[][..], &["-", &*to][..], "say -f raw or -f qcow2"),
        (&["-f", "raw"], &["-", &base, &to], "the one source"),
        (&["-f", "raw", "--salvage"], &["-", &to], "--salvage cannot go on"),
        (&["-f", "raw", "-B", &base, "-F", "raw"], &["-", &to], "-B needs a source"),
        (&["-f", "raw", "-o", "preallocation=metadata"], &["-", &to], "preallocation needs a size"),
        (&["-f", "raw"], &["-", "-"], "name a file"),
    ] {
        let args = [&["-O", "qcow2"], flags, files].concat();
        let said = convert_from(&gallery, "base.raw", &args).exits(1).fails_with(words);
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        assert!(!gallery.folder().path("to").exists(), "{args:?}");
    }
}

#[test]
fn input_that_cannot_be_read_is_an_error_in_one_line() {
    let gallery = Gallery::new();
    let to = gallery.path("to");
    let said = convert_from(&gallery, "sub", &["-f", "raw", "-", &to]).exits(1);
    assert_eq!(
        said.stderr,
        "qimg: error while reading at byte 0 of standard input: Is a directory\n"
    );
}
