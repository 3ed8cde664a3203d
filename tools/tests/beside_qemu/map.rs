//! `map`: byte for byte, through whole chains.

use crate::gallery::{Gallery, READABLE};
use crate::pair::{same, same_answer};

#[test]
fn every_image_is_mapped_alike() {
    let gallery = Gallery::new();
    for (name, _) in READABLE {
        same(&["map", "--output=json", &gallery.path(name)]);
        same(&["map", &gallery.path(name)]);
    }
}

#[test]
fn parts_are_mapped_alike() {
    let gallery = Gallery::new();
    let path = gallery.path("deep.qcow2");
    for (start, length) in [
        ("65536", "64k"),
        ("100", "1"),
        ("0", "0"),
        ("150k", "8E"),
        ("3M", "1M"),
        ("1.5k", "0x1000"),
    ] {
        let length = if length == "8E" { "7E" } else { length };
        same(&["map", "--output=json", "-s", start, "-l", length, &path]);
        same(&["map", "--start-offset", start, "--max-length", length, &path]);
    }
}

#[test]
fn wrong_numbers_are_refused_alike() {
    let gallery = Gallery::new();
    let path = gallery.path("top.qcow2");
    for number in ["foo", "-1", "", "1.5", "0x1k", "8E", "1e3", "16E", "1kk", " 1 "] {
        same(&["map", "-s", number, &path]);
        same(&["map", "-l", number, &path]);
    }
    same_answer(&["map", "-f", "qcow2", &gallery.path("base.raw")]);
}
