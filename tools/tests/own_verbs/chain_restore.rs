//! `qimg chain restore`: heaps of files that are a chain, and heaps that are none.

use std::fs::{copy, rename};

use crate::chain_files::Place;

/// A chain with records: base.raw, a.qcow2 and b.qcow2.
fn recorded() -> Place {
    let place = Place { folder: testkit::Folder::new() };
    place.folder.write("base.raw", &vec![1; 4 << 20]);
    place.qimg(&["chain", "snapshot", "-q", "-f", "raw", "base.raw", "a.qcow2"]).success();
    place.io("a.qcow2", &["write -P 2 0 64k"]);
    place.qimg(&["chain", "snapshot", "-q", "a.qcow2", "b.qcow2"]).success();
    place.io("b.qcow2", &["write -P 3 64k 64k"]);
    place
}

fn move_file(place: &Place, from: &str, to: &str) {
    rename(place.folder.path(from), place.folder.path(to)).unwrap();
}

#[test]
fn files_with_each_others_names_are_told_apart() {
    let place = recorded();
    let shown = place.shows("b.qcow2");
    move_file(&place, "a.qcow2", "c");
    move_file(&place, "b.qcow2", "a.qcow2");
    move_file(&place, "c", "b.qcow2");
    let files = ["base.raw", "b.qcow2", "a.qcow2"];
    let order = place.qimg(&[&["chain", "restore"][..], &files].concat()).success().stdout;
    assert_eq!(order, "a.qcow2\nb.qcow2\nbase.raw\n");
    place.qimg(&[&["chain", "restore", "-q", "-o", "out.qcow2"][..], &files].concat()).success();
    assert!(place.shows("out.qcow2") == shown);
    // Even when the top has the name of the lowest.
    move_file(&place, "base.raw", "c");
    move_file(&place, "a.qcow2", "base.raw");
    let files = ["b.qcow2", "c", "base.raw"];
    place.qimg(&[&["chain", "restore", "-q", "-o", "out2.qcow2"][..], &files].concat()).success();
    assert!(place.shows("out2.qcow2") == shown);
}

#[test]
fn a_raw_base_that_looks_like_an_image_is_a_raw_base() {
    let place = recorded();
    let image = place.folder.read("a.qcow2");
    let mut broken = vec![5; 1 << 20];
    broken[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    for (number, bytes) in [image, broken].iter().enumerate() {
        let (base, overlay) = (format!("guest{number}.raw"), format!("on{number}.qcow2"));
        place.folder.write(&base, bytes);
        place.qimg(&["chain", "snapshot", "-q", "-f", "raw", &base, &overlay]).success();
        // Without records the header above says it, if the name is still the same.
        place.overlay("plain.qcow2", (&base, "raw"), &[]);
        let order = place.qimg(&["chain", "restore", &base, "plain.qcow2"]).success().stdout;
        assert_eq!(order, format!("plain.qcow2\n{base}\n"));
        std::fs::remove_file(place.folder.path("plain.qcow2")).unwrap();
        let (renamed, out) = (format!("renamed{number}"), format!("out{number}"));
        move_file(&place, &base, &renamed);
        let args = ["chain", "restore", "-q", "-O", "raw", "-o", &out, &overlay, &renamed];
        place.qimg(&args).success();
        let mut expected = bytes.clone();
        expected.resize(bytes.len().next_multiple_of(512), 0);
        assert!(place.folder.read(&out) == expected);
    }
    // Nobody says that this one is raw.
    place.refuses(&["chain", "restore", "renamed1"], "cluster_bits");
}

#[test]
fn what_is_no_chain_is_refused_by_name() {
    let place = recorded();
    let incomplete = |files: &[&str], words: &str| {
        let before = place.files();
        let args = [&["chain", "restore", "-o", "out.qcow2"][..], files].concat();
        let said = place.qimg(&args).exits(12);
        assert!(said.stderr.contains(words) && said.stderr.lines().count() == 1, "{said:?}");
        assert_eq!(place.changed_since(&before), [""; 0]);
    };
    incomplete(&["b.qcow2", "base.raw"], "rests on 'a.qcow2', which is not among the files");
    incomplete(&["b.qcow2", "a.qcow2"], "rests on 'base.raw', which is not among the files");
    incomplete(&["b.qcow2", "a.qcow2", "a.qcow2", "base.raw"], "'a.qcow2' was given twice");
    std::fs::hard_link(place.folder.path("a.qcow2"), place.folder.path("hard")).unwrap();
    incomplete(&["b.qcow2", "a.qcow2", "hard", "base.raw"], "'hard' was given twice");
    place.folder.write("other.raw", &[0; 512]);
    incomplete(&["b.qcow2", "a.qcow2", "base.raw", "other.raw"], "other.raw");
    place.qimg(&["chain", "snapshot", "-q", "a.qcow2", "fork.qcow2"]).success();
    incomplete(&["b.qcow2", "a.qcow2", "fork.qcow2", "base.raw"], "the chain forks");
    copy(place.folder.path("a.qcow2"), place.folder.path("x1")).unwrap();
    copy(place.folder.path("a.qcow2"), place.folder.path("x2")).unwrap();
    incomplete(&["b.qcow2", "x1", "x2", "base.raw"], "may rest on any of 'x1', 'x2'");
    for (name, below) in [("q1.qcow2", "q2.qcow2"), ("q2.qcow2", "q1.qcow2")] {
        place.qemu_img(&[
            "create", "-q", "-u", "-f", "qcow2", "-b", below, "-F", "qcow2", name, "1M",
        ]);
    }
    incomplete(&["q1.qcow2", "q2.qcow2"], "rests on itself");
    place.refuses(&["chain", "restore", "-o", "b.qcow2", "a.qcow2", "base.raw"], "exists already");
    place.io("a.qcow2", &["write -P 9 64k 1"]);
    let said = place.qimg(&["chain", "restore", "-o", "out", "b.qcow2", "a.qcow2", "base.raw"]);
    assert!(said.exits(13).stderr.contains("--any-base"));
    assert!(!place.folder.path("out").exists());
}
