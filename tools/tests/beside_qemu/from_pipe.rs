//! `convert` from standard input: contents, refusals, and pipes on both sides.

use std::fs::File;
use std::process::{Command, Stdio};

use testkit::{Output, Qemu};

use crate::gallery::{Gallery, READABLE};
use crate::pair::qimg;

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
            ("qcow2", &["-c", "-o", "extended_l2=on"]),
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

#[test]
fn every_image_that_stands_alone_comes_through_a_pipe() {
    let gallery = Gallery::new();
    let (raw, qcow2) = (gallery.path("to.raw"), gallery.path("to.qcow2"));
    for (name, format) in READABLE {
        let has_backing = ["top.qcow2", "sub/overlay.qcow2", "deep.qcow2"].contains(&name);
        if format != "qcow2" || has_backing {
            continue;
        }
        let from = gallery.path(name);
        convert_from(&gallery, name, &["-f", "qcow2", "-O", "raw", "-", &raw]).success();
        Qemu::assert_same(("qcow2", from.as_ref()), ("raw", raw.as_ref()));
        for flags in [&[][..], &["-S", "0"], &["-o", "cluster_size=4k"]] {
            let args = [&["-f", "qcow2", "-O", "qcow2"], flags, &["-", &*qcow2]].concat();
            let said = convert_from(&gallery, name, &args).success();
            assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
            Qemu::check(qcow2.as_ref());
            Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", qcow2.as_ref()));
        }
    }
}

#[test]
fn an_overlay_from_a_pipe_needs_its_base() {
    let gallery = Gallery::new();
    let (to, from, base) =
        (gallery.path("to"), gallery.path("top.qcow2"), gallery.path("base.raw"));
    let refused = convert_from(&gallery, "top.qcow2", &["-f", "qcow2", "-O", "qcow2", "-", &to]);
    assert_eq!(
        refused.exits(1).stderr,
        "qimg: the image on standard input has the backing file 'base.raw', which does not come \
         with it; put the copy on top of it with -O qcow2 -B 'base.raw' -F FMT\n"
    );
    assert!(!gallery.folder().path("to").exists());
    let flags = ["-f", "qcow2", "-O", "qcow2", "-B", &base, "-F", "raw", "-", &to];
    convert_from(&gallery, "top.qcow2", &flags).success();
    Qemu::check(to.as_ref());
    Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
}

#[test]
fn from_pipe_to_pipe() {
    let gallery = Gallery::new();
    let script = format!(
        "set -o pipefail; '{0}' convert -O qcow2 deep.qcow2 - | '{0}' convert -f qcow2 -O raw - - \
         | '{0}' convert -f raw -O qcow2 - back.qcow2",
        env!("CARGO_BIN_EXE_qimg")
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(gallery.folder().root());
    assert!(shell.status().expect("a shell").success());
    let (from, to) = (gallery.path("deep.qcow2"), gallery.path("back.qcow2"));
    Qemu::check(to.as_ref());
    Qemu::assert_same(("qcow2", from.as_ref()), ("qcow2", to.as_ref()));
}

#[test]
fn what_has_to_wait_has_a_limit_and_a_folder() {
    let gallery = Gallery::new();
    gallery.create(&["-f", "qcow2"], "grown.qcow2", "4M");
    gallery.io("qcow2", "grown.qcow2", &["write -P 5 0 3M"]);
    let name = gallery.path("grown.qcow2");
    // Its L1 table moves to the end.
    Qemu::img(["resize", "-q", "-f", "qcow2", &name, "16T"]).success();
    let to = gallery.path("to");
    let convert = |flags: &[&str]| {
        let args = [&["-f", "qcow2", "-O", "qcow2"], flags, &["-", &*to]].concat();
        convert_from(&gallery, "grown.qcow2", &args)
    };
    let said = convert(&["--spill-limit", "1M"]).exits(1);
    assert_eq!(
        said.stderr,
        "qimg: data came before the tables that say where it belongs, more than the 1048576 bytes \
         that may wait; give more with --spill-limit, or name the image as a file\n"
    );
    convert(&["--spill-dir", "/nosuch"]).exits(1).fails_with("another folder with --spill-dir");
    convert(&["--spill-limit", "x"]).exits(1).fails_with("--spill-limit expects a size");
    let folder = gallery.folder().root().to_str().expect("a name");
    convert(&["--spill-limit", "64M", "--spill-dir", folder]).success();
    Qemu::check(to.as_ref());
    Qemu::assert_same(("qcow2", name.as_ref()), ("qcow2", to.as_ref()));
    let refused = qimg(&["convert", "--spill-limit", "1M", &name, &gallery.path("other")]).exits(1);
    assert!(refused.stderr.contains("are for qcow2 images from standard input"), "{refused:?}");
}

#[test]
fn an_image_cut_short_is_an_error_in_one_line() {
    let gallery = Gallery::new();
    let whole = gallery.folder().read("small-clusters.qcow2");
    let to = gallery.path("to");
    for (len, words) in [
        (0, "standard input: "),
        (100, "standard input: "),
        (whole.len() / 2, "standard input: "),
        (whole.len() - 1024, "standard input: "),
    ] {
        gallery.folder().write("cut.qcow2", &whole[..len]);
        for format in ["raw", "qcow2"] {
            let args = ["-f", "qcow2", "-O", format, "-", &to];
            let said = convert_from(&gallery, "cut.qcow2", &args).exits(1).fails_with(words);
            assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        }
    }
    for (flags, words) in [
        (&["-c"][..], "-c needs clusters in their order"),
        (&["--salvage"], "--salvage cannot go on"),
    ] {
        let args = [&["-f", "qcow2", "-O", "qcow2"], flags, &["-", &*to]].concat();
        convert_from(&gallery, "zero.qcow2", &args).exits(1).fails_with(words);
    }
    convert_from(&gallery, "zero.qcow2", &["-f", "qcow2", "-O", "qcow2", "-", "-"])
        .exits(1)
        .fails_with("use -O raw");
}

#[test]
fn a_copy_never_goes_over_the_file_behind_the_pipe() {
    let gallery = Gallery::new();
    let (base, top) = (gallery.path("base.raw"), gallery.path("top.qcow2"));
    let before = gallery.folder().read("base.raw");
    for flags in [&[][..], &["-n"], &["-O", "qcow2"]] {
        let args = [&["-f", "raw"], flags, &["-", &*base]].concat();
        convert_from(&gallery, "base.raw", &args).exits(1).fails_with("the other end of the copy");
        assert!(gallery.folder().read("base.raw") == before, "{flags:?}");
    }
    let appended = File::options().append(true).open(&base).expect("the base");
    let mut command = Command::new(env!("CARGO_BIN_EXE_qimg"));
    command.args(["convert", "-f", "qcow2", &top, "-"]).stdout(appended).stderr(Stdio::piped());
    let output = command.output().expect("qimg starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the other end of the copy"));
    assert!(gallery.folder().read("base.raw") == before);
}
