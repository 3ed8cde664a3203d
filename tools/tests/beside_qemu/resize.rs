//! `resize`: the same words, exit codes and disks as the real tool, for both formats.

use std::path::Path;

use crate::gallery::Gallery;
use crate::pair::{qimg, same, same_answer};
use testkit::Qemu;

/// Runs both on copies of the same file; what they say and what is left must be alike. Raw
/// files are compared whole, images by what they show.
#[track_caller]
fn alike(gallery: &Gallery, name: &str, format: &str, flags: &[&str], size: &str) {
    let path = gallery.path(name);
    let theirs_path = gallery.path(&format!("theirs-{name}"));
    std::fs::copy(&path, &theirs_path).expect("the image can be copied");
    let run = |path: &str| [&["resize", "-f", format], flags, &[path, size]].concat().join("\0");
    let split = |line: &str| line.split('\0').map(str::to_owned).collect::<Vec<_>>();
    let theirs = Qemu::img(split(&run(&theirs_path)));
    let words = split(&run(&path));
    let ours = qimg(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ours.code, theirs.code, "{flags:?} {size}: {}{}", ours.stderr, theirs.stderr);
    assert_eq!(ours.stdout, theirs.stdout, "{flags:?} {size}");
    assert_eq!(ours.stderr.is_empty(), theirs.stderr.is_empty(), "{}", ours.stderr);
    assert!(ours.stderr.lines().count() <= 1, "{}", ours.stderr);
    let (ours, theirs): (&Path, &Path) = (path.as_ref(), theirs_path.as_ref());
    if format == "raw" {
        let read = |path| std::fs::read(path).expect("the disk can be read");
        assert!(read(ours) == read(theirs), "{flags:?} {size}");
        return;
    }
    Qemu::check(ours);
    Qemu::assert_same((format, ours), (format, theirs));
    let size_of = |path| Qemu::info_json(format, path)["virtual-size"].as_u64();
    assert_eq!(size_of(ours), size_of(theirs), "{flags:?} {size}");
    qimg(&["check", &path]).success();
}

fn gallery() -> Gallery {
    let gallery = Gallery::new();
    gallery.create(&["-f", "qcow2"], "own.qcow2", "1M");
    gallery.io("qcow2", "own.qcow2", &["write -P 5 0 300k", "write -P 6 900k 124k"]);
    gallery
}

#[test]
fn wrong_command_lines() {
    let gallery = gallery();
    let path = gallery.path("own.qcow2");
    for (args, part) in [
        (&["resize"][..], "Expecting image file name and size"),
        (&["resize", &path], "Expecting image file name and size"),
        (&["resize", &path, "-q"], "Expecting image file name and size"),
        (&["resize", &path, "2M", "3M"], "Extra argument(s) in command line"),
        (&["resize", &path, "foo"], "Invalid size 'foo'"),
        (&["resize", &path, "+foo"], "Invalid size '+foo'"),
        (&["resize", &path, ""], "Invalid size ''"),
        (&["resize", &path, "+-5"], "Value '-5' is out of range for parameter 'size'"),
        (&["resize", &path, "0"], "New image size must be positive"),
        (&["resize", &path, "8E"], "New image size must be positive"),
        (&["resize", &path, "--", "-100M"], "New image size must be positive"),
        (&["resize", &path, "+9223372036854775807"], "New image size must be positive"),
        (&["resize", &path, "7E"], "File too large"),
        (&["resize", &path, "1025k"], "Image resized."),
        (&["resize", &path, "+1000"], "The new size must be a multiple of 512"),
        (&["resize", &path, "100"], "Use the --shrink option to perform a shrink operation."),
        (&["resize", &path, "-512k"], "Use the --shrink option to perform a shrink operation."),
        (&["resize", "--preallocation=foo", &path, "2M"], "Invalid preallocation mode 'foo'"),
        (&["resize", "--preallocation=foo", "nosuch", "bar"], "Invalid preallocation mode 'foo'"),
        (
            &["resize", "--shrink", "--preallocation=full", &path, "512k"],
            "Preallocation can only be used for growing images",
        ),
        (
            &["resize", "--preallocation=metadata", &path, "+0"],
            "Preallocation can only be used for growing images",
        ),
        (&["resize", "-U", &path, "+1M"], "invalid option -- 'U'"),
        (&["resize", "nosuch", "2M"], "Could not open 'nosuch'"),
        (&["resize", "-f", "foo", &path, "2M"], "Unknown driver 'foo'"),
        (
            &["resize", "--image-opts", "-f", "qcow2", &path, "2M"],
            "--image-opts and --format are mutually exclusive",
        ),
    ] {
        let theirs = Qemu::img(args);
        let ours = qimg(args);
        assert_eq!(ours.code, theirs.code, "{args:?}: {}{}", ours.stderr, theirs.stderr);
        assert!(
            ours.stderr.contains(part) || ours.stdout.contains(part),
            "{args:?}: {}",
            ours.stderr
        );
        assert!(ours.stderr.lines().count() <= 1, "{}", ours.stderr);
    }
}

#[test]
fn trap_62_bitmaps_would_have_to_grow_too() {
    let gallery = gallery();
    let path = gallery.path("own.qcow2");
    Qemu::img(["bitmap", "--add", &path, "changes"]).success();
    let before = std::fs::read(&path).unwrap();
    for size in ["2M", "512k"] {
        let ours = qimg(&["resize", "--shrink", &path, size]).exits(1);
        assert!(ours.stderr.contains("bitmaps are not supported for writing"), "{}", ours.stderr);
    }
    assert!(std::fs::read(&path).unwrap() == before, "a refusal has changed the file");
}

#[test]
fn objects_other_than_secrets_are_not_offered() {
    let gallery = gallery();
    let path = gallery.path("own.qcow2");
    let ours = qimg(&["resize", "--object", "iothread,id=t", &path, "2M"]).exits(1);
    assert!(ours.stderr.contains("--object iothread is not offered"), "{}", ours.stderr);
    qimg(&["resize", "--object", "secret,id=s,data=x", &path, "2M"]).success();
}

#[test]
fn disks_without_a_backing_file() {
    for (flags, size) in [
        (&[][..], "1M"),
        (&[], "+0"),
        (&[], "+1M"),
        (&[], "1G"),
        (&[], "+1.5k"),
        (&["-q"], "2M"),
        (&["--shrink"], "-512k"),
        (&["--shrink"], "100k"),
        (&["--shrink"], "512"),
        (&["--shrink"], "3M"),
        (&["--preallocation=off"], "3M"),
        (&["--preallocation=metadata"], "3M"),
        (&["--preallocation=falloc"], "3M"),
        (&["--preallocation=full"], "+512"),
    ] {
        alike(&gallery(), "own.qcow2", "qcow2", flags, size);
    }
}

#[test]
fn raw_disks() {
    for (flags, size) in [
        (&[][..], "4M"),
        (&[], "+512"),
        (&["--shrink"], "1M"),
        (&["--shrink"], "3001"),
        (&[], "1M"),
        (&["--preallocation=metadata"], "4M"),
        (&["--preallocation=falloc"], "4M"),
        (&["--preallocation=full"], "4M"),
        (&["--preallocation=full"], "1M"),
    ] {
        alike(&gallery(), "base.raw", "raw", flags, size);
    }
    let gallery = gallery();
    let odd = gallery.folder().write("odd.raw", &[7; 1000]);
    alike(&gallery, "odd.raw", "raw", &[], "+1k");
    assert_eq!(std::fs::metadata(odd).unwrap().len(), 2048);
    same(&["resize", &gallery.path("odd.raw"), "+1k"]);
    same(&["resize", "-q", &gallery.path("odd.raw"), "+1k"]);
}

#[test]
fn overlays_over_longer_and_shorter_files() {
    for size in ["100k", "1M", "3M", "3500k"] {
        for (flags, new_size) in
            [(&[][..], "4M"), (&["--preallocation=metadata"], "4M"), (&["--shrink"], "50k")]
        {
            let gallery = gallery();
            let base = gallery.path("base.raw");
            for compat in ["1.1", "0.10"] {
                let option = format!("compat={compat}");
                let create = ["-f", "qcow2", "-o", &option, "-b", &base, "-F", "raw"];
                gallery.create(&create, "over.qcow2", size);
                alike(&gallery, "over.qcow2", "qcow2", flags, new_size);
            }
        }
    }
}

#[test]
fn images_with_subclusters_and_data_files() {
    for options in ["extended_l2=on", "extended_l2=on,preallocation=metadata", "refcount_bits=1"] {
        for (flags, size) in [
            (&[][..], "4M"),
            (&["--preallocation=metadata"], "4M"),
            (&["--preallocation=falloc"], "4M"),
            (&["--shrink"], "70k"),
        ] {
            let gallery = gallery();
            gallery.create(&["-f", "qcow2", "-o", options], "x.qcow2", "1M");
            gallery.io("qcow2", "x.qcow2", &["write -P 5 10k 300k", "write -P 6 900k 124k"]);
            alike(&gallery, "x.qcow2", "qcow2", flags, size);
        }
    }
}

#[test]
fn what_qemu_resized_is_ours_to_resize_and_the_other_way_round() {
    let gallery = gallery();
    let path = gallery.path("own.qcow2");
    for (number, size) in ["700k", "2M", "100k", "1G", "3M", "40G", "512"].iter().enumerate() {
        let args = ["resize", "-f", "qcow2", "--shrink", &path, size];
        if number % 2 == 0 {
            qimg(&args).success()
        } else {
            Qemu::img(args).success()
        };
        Qemu::check(path.as_ref());
        same_answer(&["map", "--output=json", &path]);
        gallery.io("qcow2", "own.qcow2", &["write -P 9 0 512"]);
    }
}
