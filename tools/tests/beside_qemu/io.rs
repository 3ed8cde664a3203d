//! `qimg-io`: the same commands on the same images, timings aside.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::{Output, Qemu};

use crate::gallery::{Gallery, READABLE};
use crate::pair::qimg_io;

/// What a run said, with its timings taken out and the program's name made equal.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn normal(text: &str) -> String {
    let line = |line: &str| match line.split_once(" ops; ") {
        Some((amount, _)) => format!("{amount} ops\n"),
        None if line.matches(',').count() == 4
            && line.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            line.split(',').take(2).collect::<Vec<_>>().join(",") + "\n"
        }
        None => format!("{}\n", line.replace("qimg-io", "qemu-io")),
    };
    text.lines().map(line).collect()
}

fn same(gallery: &Gallery, flags: &[&str], image: &str, commands: &[&str]) {
    let path = gallery.path("io.img");
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    let args: Vec<&str> = flags.iter().copied().chain(commands).chain([&*path]).collect();
    let run = |program: fn(&[&str]) -> Output| {
        std::fs::copy(gallery.path(image), &path).expect("a copy");
        let output = program(&args);
        Said { code: output.code, out: normal(&output.stdout), err: normal(&output.stderr) }
    };
    let said = [run(|args| Qemu::io(args)), run(qimg_io)];
    assert_eq!(said[1], said[0], "{image} {flags:?}");
}

#[test]
fn discards() {
    let commands = [
        "write -P 5 0 256k",
        "discard 64k 64k",
        "discard -C 128k 4k",
        "d -q 192k 64k",
        "discard 0 512",
        "read -P 5 0 64k",
        "read -P 0 64k 64k",
        "read -P 5 128k 64k",
        "map",
        "discard 8G 64k",
        "discard 0 3G",
        "discard x 5",
        "discard 0",
        "write -z -u 0 64k",
        "map",
        "discard 0 256k",
        "map",
    ];
    let gallery = Gallery::new();
    for image in ["nothing.qcow2", "zero-allocated.qcow2", "v2.qcow2"] {
        for mode in ["unmap", "ignore"] {
            same(&gallery, &["-f", "qcow2", "-d", mode], image, &commands);
        }
        same(&gallery, &["-f", "qcow2", "-r"], image, &["discard 0 64k"]);
    }
}

#[test]
fn reads_and_writes() {
    let commands = [
        "write 0 64k",
        "write -P 0xab 64k 32",
        "read -v 64k 40",
        "read -P 0xab 64k 512",
        "read -P 0xab -s 0 -l 32 64k 512",
        "read -C 0 4k",
        "read -q 0 4k",
        "length",
        "info",
        "map",
        "alloc 0",
        "alloc 0 1M",
        "a 100",
        "flush",
        "write -z 128k 64k",
        "write -z -u 128k 64k",
        "w -zn 0 64k",
        "readv -v 0 16 32",
        "writev -P 7 0 512 1k 512",
        "write -f -P 3 4k 100",
        "read -vP 3 4k 100",
        "map",
        "f",
        "l",
        "sleep 1",
        "read 0 0",
        "write 0 0",
    ];
    let gallery = Gallery::new();
    for image in ["nothing.qcow2", "compressed.qcow2", "zero-allocated.qcow2", "v2.qcow2"] {
        same(&gallery, &["-f", "qcow2"], image, &commands);
    }
    same(&gallery, &["-f", "qcow2"], "deep.qcow2", &commands);
    let raw = ["write -P 5 100 1000", "read -v 90 20", "length", "info", "read -P 5 100 1000"];
    same(&gallery, &["-f", "raw"], "base.raw", &raw);
}

#[test]
fn wrong_requests() {
    let gallery = Gallery::new();
    let nosuch = format!("write -s {} 0 512", gallery.path("nosuch"));
    let empty = format!("write -s {} 0 512", gallery.path("empty.raw"));
    let commands = [
        "foo",
        "read",
        "read 0",
        "read foo 1",
        "read 0 foo",
        "read 0 3G",
        "read -x 0 1",
        "read 0 1 2",
        "read -1 5",
        "read -- -1 5",
        "read 0 -1",
        "read -P 256 0 512",
        "read -P foo 0 512",
        "read -s 1 0 512",
        "read -P 1 -s 600 0 512",
        "read -P 1 -l 600 0 512",
        "read -P1 -s foo 0 512",
        "write -P 1 -z 0 512",
        "write -u 0 512",
        "write -n 0 512",
        &nosuch,
        &empty,
        "write -b -z 0 512",
        "writev 0",
        "readv 0",
        "readv 0 foo",
        "writev 0 1G 1G",
        "readv 0 3G",
    ];
    same(&gallery, &["-f", "qcow2"], "zero.qcow2", &commands);
}

#[test]
fn wrong_commands() {
    let gallery = Gallery::new();
    let commands = [
        "alloc",
        "alloc foo",
        "alloc 0 foo",
        "alloc 0 1 2",
        "alloc 0 5G",
        "map 1",
        "length 1",
        "flush 1",
        "sleep",
        "sleep foo",
        "close 1",
        "open",
        "open a b",
        "open nosuch",
        "help foo",
        "reopen -x",
        "reopen foo",
        "",
        "   ",
        "#foo",
        "read \"0\" 5",
        "write 1M 64k",
        "read 960k 128k",
        "write -z 1M 1",
        "read -P 0x1ff 0 1",
        "aio_write -u 0 4k",
        "aio_write -z 0 4k 4k",
        "aio_read foo 1",
        "reopen -r -w",
        "reopen -c foo",
        "reopen -r",
        "write 0 512",
        "reopen -w",
        "write -q 0 512",
        "close",
        "read 0 1",
        "length",
        "quit",
        "read 0 1",
    ];
    same(&gallery, &["-f", "qcow2"], "zero.qcow2", &commands);
}

#[test]
fn flags_of_the_program() {
    let gallery = Gallery::new();
    for flags in [
        &["-r"][..],
        &["-t", "foo"],
        &["-t", "none"],
        &["-n", "-k"],
        &["-i", "foo"],
        &["-d", "foo"],
        &["-s"],
        &["-U"],
        &["-U", "-r"],
        &["-f", "raw"],
        &["-m"],
        &["--cmd", "map"],
    ] {
        let commands = ["length", "write -P 1 0 512", "read -P 1 0 512"];
        same(&gallery, flags, "nothing.qcow2", &commands);
    }
}

#[test]
fn every_image_reads_alike() {
    let gallery = Gallery::new();
    for (name, format) in READABLE {
        let commands = ["map", "alloc 0 64k", "read -v 60k 8k", "read -v 192k 512", "info"];
        let path = gallery.path(name);
        let commands = commands.iter().flat_map(|command| ["-c", command]);
        let args: Vec<&str> =
            ["-r", "-f", format].into_iter().chain(commands).chain([&*path]).collect();
        let (theirs, ours) = (Qemu::io(&args), qimg_io(&args));
        assert_eq!(normal(&ours.stdout), normal(&theirs.stdout), "{name}");
        assert_eq!(ours.code, theirs.code, "{name}");
    }
}

fn interactive(program: &Path, image: &str, input: &str) -> Said {
    let mut child = Command::new(program)
        .args(["-f", "qcow2", image])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // The program may leave before it has read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| normal(&String::from_utf8_lossy(bytes));
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn commands_from_standard_input() {
    let gallery = Gallery::new();
    let path = gallery.path("zero.qcow2");
    for input in [
        "read 0 512\nlength\n\nfoo\nhelp quit\nread 0 1",
        "length\nquit\nlength\n",
        "",
        "\n\n",
        "write -P 1 0 512\nread -P 1 0 512\n",
    ] {
        let theirs = interactive("qemu-io".as_ref(), &path, input);
        let ours = interactive(env!("CARGO_BIN_EXE_qimg-io").as_ref(), &path, input);
        assert_eq!(ours, theirs, "{input:?}");
    }
}

#[test]
fn options_change_while_an_image_is_open() {
    let gallery = Gallery::new();
    for options in [
        "lazy-refcounts=on",
        "lazy-refcounts=42",
        "cache-size=1M",
        "l2-cache-entry-size=33k",
        "l2-cache-entry-size=128k",
        "cache-size=1M,l2-cache-size=2M",
        "refcount-cache-size=256T",
        "cache-size=1M,l2-cache-size=1M,refcount-cache-size=1M",
        "cache-clean-interval=-1",
        "overlap-check=all",
        "overlap-check=blubb",
        "overlap-check=all,overlap-check.template=none",
        "overlap-check.active-l1=off",
        "pass-discard-other=on",
        "discard=ignore",
        "foo=bar",
        "detect-zeroes=on",
        "driver=raw",
        "file.locking=off",
        "cache.direct=on",
    ] {
        let reopen = format!("reopen -o {options}");
        let commands =
            [&*reopen, "write -P 0 0 64k", "discard 64k 64k", "map", "reopen -r", "length"];
        same(&gallery, &["-f", "qcow2"], "scattered.qcow2", &commands);
    }
    let wrong = ["reopen -r -o read-only=on", "reopen -c none -o cache.direct=on", "reopen -c foo"];
    same(&gallery, &["-f", "qcow2"], "nothing.qcow2", &wrong);
}

#[test]
fn the_disk_is_cut_and_grows() {
    let gallery = Gallery::new();
    let commands = [
        "write -P 5 0 1M",
        "truncate 512k",
        "length",
        "truncate 2M",
        "read -P 0 512k 512k",
        "length",
        "truncate -m metadata 3M",
        "truncate -m full 1M",
        "truncate -m foo 4M",
        "truncate foo",
        "truncate",
        "truncate -x 1",
        "truncate 5000",
        "map",
    ];
    for image in ["nothing.qcow2", "v2.qcow2"] {
        same(&gallery, &["-f", "qcow2", "-t", "writeback"], image, &commands);
    }
    let raw = ["truncate 512k", "length", "truncate 2M", "length"];
    same(&gallery, &["-f", "raw"], "base.raw", &raw);
    same(&gallery, &["-f", "qcow2", "-r"], "nothing.qcow2", &["truncate 1M"]);
}

#[test]
fn crashes_and_commands_for_other_drivers() {
    let gallery = Gallery::new();
    for command in [
        "sigraise 0",
        "sigraise foo",
        "sigraise -1",
        "sigraise 99",
        "sigraise",
        "break a b",
        "resume a",
        "remove_break a",
        "zone_report 0 1",
        "zone_open 0 1",
        "zone_append 0 1",
        "help",
        "help truncate",
        "help zone_reset",
        "help nope",
    ] {
        let commands = ["write -P 7 0 64k", command, "length"];
        same(&gallery, &["-f", "qcow2", "-t", "writeback"], "nothing.qcow2", &commands);
    }
    let path = gallery.path("nothing.qcow2");
    for command in ["sigraise 9", "abort"] {
        let ours = qimg_io(&["-f", "qcow2", "-c", command, "-c", "length", &path]);
        assert_eq!((ours.code, &*ours.stdout), (None, ""), "{command}");
    }
}

#[test]
fn the_state_of_a_virtual_machine_lies_behind_the_disk() {
    let gallery = Gallery::new();
    let commands = [
        "read -b -P 0 0 64k",
        "write -b -P 7 4k 100k",
        "read -b -P 0 0 4k",
        "read -b -P 7 4k 100k",
        "write -b 5G 512",
        "read -b -P 0xcd 5G 512",
        "read -b -P 0 100G 4k",
        "read -b 1 512",
        "write -b 0 100",
        "write -b 0 3G",
        "read -P 0 512k 512k",
        "length",
        "truncate 3M",
        "map",
    ];
    for image in ["nothing.qcow2", "v2.qcow2", "small-clusters.qcow2", "top.qcow2"] {
        same(&gallery, &["-f", "qcow2"], image, &commands[..commands.len() - 2]);
        let path = gallery.path("io.img");
        Qemu::img(["check", "-q", &path]).success();
        let kept = ["read -b -P 7 4k 100k", "read -b -P 0xcd 5G 512"];
        let kept = kept.iter().flat_map(|command| ["-c", command]);
        let args: Vec<&str> = ["-f", "qcow2"].into_iter().chain(kept).chain([&*path]).collect();
        Qemu::io(args).success();
    }
    same(&gallery, &["-f", "qcow2", "-r"], "nothing.qcow2", &["write -b 0 4k", "read -b 0 4k"]);
}
