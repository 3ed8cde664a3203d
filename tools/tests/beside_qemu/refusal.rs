//! Refusals: one line that names the thing, exit code 1, and nothing touched.

use crate::gallery::Gallery;
use crate::pair::qimg;

/// Asserts a refusal that contains `part`.
#[track_caller]
fn refused(args: &[&str], part: &str) {
    let ours = qimg(args).exits(1);
    assert_eq!(ours.stdout, "", "{args:?}");
    assert_eq!(ours.stderr.lines().count(), 1, "{}", ours.stderr);
    assert!(ours.stderr.starts_with("qimg: "), "{}", ours.stderr);
    assert!(ours.stderr.contains(part), "{args:?}: {}", ours.stderr);
}

#[test]
fn wrong_command_lines() {
    for (args, part) in [
        (&[][..], "Not enough arguments (try 'qimg --help')"),
        (&["nosuch"], "Command not found: nosuch"),
        (&["-x"], "invalid option -- 'x'"),
        (&["info"], "Expecting one image file name (try 'qimg info --help')"),
        (&["info", "a", "b"], "Expecting one image file name"),
        (&["map", "--foo", "a"], "unrecognized option '--foo' (try 'qimg map --help')"),
        (&["map", "a", "-s"], "requires an argument"),
        (&["info", "--output=xml", "a"], "--output expects 'human' or 'json' not 'xml'"),
        (&["check", "-r", "foo", "a"], "--repair (-r) expects 'leaks' or 'all' not 'foo'"),
        (&["create", "a", "1", "2"], "Unexpected argument: 2"),
        (&["chain"], "Not enough arguments"),
        (&["explain", "a"], "Expecting an image file name and a guest offset"),
        (&["explain", "--header", "a", "0"], "Expecting one image file name"),
    ] {
        refused(args, part);
    }
}

#[test]
fn later_verbs_are_named() {
    refused(&["bitmap", "--some", "x"], "bitmap is not offered yet; use 'qemu-img bitmap'");
}

#[test]
fn later_flags_are_named() {
    let gallery = Gallery::new();
    let (top, new) = (gallery.path("top.qcow2"), gallery.path("new"));
    for (flags, part) in [
        (&["-l", "s"][..], "-l is not offered"),
        (&["--bitmaps", "-O", "qcow2"], "--bitmaps is not offered"),
        (&["--object", "iothread,id=t"], "--object iothread is not offered"),
    ] {
        refused(&[&["convert"], flags, &[&*top, &*new]].concat(), part);
    }
    assert!(!gallery.folder().path("new").exists());
}

#[test]
fn options_of_images_are_named() {
    for (args, part) in [
        (&["info", "nbd://host/x"][..], "Unknown protocol 'nbd'"),
        (&["info", "--image-opts", "driver=raw,file.driver=nbd,file.host=x"], "driver 'nbd'"),
        (
            &["info", "--image-opts", "driver=qcow2,foo=bar,file.filename=a"],
            "not support the option 'foo'",
        ),
        (&["map", "json:{\"driver\":\"qcow2\",\"backing\":null}"], "image option 'backing'"),
        (&["map", "json:{"], "Could not parse the JSON options"),
        (&["map", "-f", "vmdk", "a"], "Unknown driver 'vmdk'"),
    ] {
        refused(args, part);
    }
}

#[test]
fn a_backing_file_without_format_names_the_flag() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    // The format extension stands behind the header: type 0xe2792aca, then its length.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|word| word == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[at..at + 4].copy_from_slice(&[0x11, 0x22, 0x33, 0x44]);
    std::fs::write(&path, &bytes).unwrap();
    refused(&["map", &path], "--probe-backing");
    qimg(&["map", "--probe-backing", &path]).success();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_image_in_use_is_left_alone() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    let session = testkit::IoSession::start(["-f", "qcow2", &path]).unwrap();
    refused(&["map", &path], "lock: is another process using the image");
    refused(&["map", &path], "(-U reads it all the same)");
    qimg(&["map", "-U", &path]).success();
    let ours = qimg(&["create", "-q", "-f", "qcow2", &path, "1M"]).exits(1);
    // In brackets: a folder by chance may be named "-U", too.
    assert!(ours.stderr.contains("lock") && !ours.stderr.contains("(-U"), "{ours:?}");
    drop(session);
    qimg(&["map", &path]).success();
}

#[test]
fn a_copy_never_goes_over_a_layer_it_is_made_from() {
    let gallery = Gallery::new();
    let (base, top) = (gallery.path("base.raw"), gallery.path("top.qcow2"));
    let before = std::fs::read(&base).unwrap();
    for flags in [&["convert"][..], &["convert", "-n"]] {
        for source in [&top, &base] {
            let args = [flags, &["-f", format_of(source), "-O", "raw", source, &base]].concat();
            testkit::Qemu::img(args.iter()).exits(1);
            refused(&args, "which the copy is made from; name another file");
            assert!(std::fs::read(&base).unwrap() == before, "{args:?} changed its source");
        }
    }
}

fn format_of(path: &str) -> &'static str {
    if path.ends_with(".raw") { "raw" } else { "qcow2" }
}

#[test]
fn what_needs_no_data_works_beside_a_writer() {
    let gallery = Gallery::new();
    let (raw, top, new) =
        (gallery.path("base.raw"), gallery.path("top.qcow2"), gallery.path("new"));
    let _raw = testkit::IoSession::start(["-f", "raw", &raw]).unwrap();
    crate::pair::same(&["info", "-f", "raw", &raw]);
    crate::pair::same(&["convert", "-f", "raw", "-O", "raw", "-U", &raw, &new]);
    let _top = testkit::IoSession::start(["-f", "qcow2", &top]).unwrap();
    crate::pair::same(&["create", "-f", "qcow2", "-b", &top, "-F", "qcow2", &new]);
}
