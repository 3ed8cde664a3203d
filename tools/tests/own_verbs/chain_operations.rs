//! `qimg chain commit`, `stream`, `flatten`, `rebase`, `diff`, `snapshot` and `clone`, and `commit` and
//! `rebase` under their own names: what they print, what they leave alone, what they refuse.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::chain_files::Place;

/// Operations on the chain that all are possible.
const POSSIBLE: [&[&str]; 12] = [
    &["commit", "top.qcow2"],
    &["commit", "-d", "top.qcow2"],
    &["commit", "-b", "base.raw", "top.qcow2"],
    &["rebase", "-b", "base.raw", "-F", "raw", "top.qcow2"],
    &["rebase", "-u", "-b", "", "top.qcow2"],
    &["chain", "commit", "--from", "1", "top.qcow2"],
    &["chain", "commit", "--into", "base.raw", "top.qcow2"],
    &["chain", "stream", "--base", "base.raw", "top.qcow2"],
    &["chain", "flatten", "top.qcow2"],
    &["chain", "rebase", "top.qcow2"],
    &["chain", "snapshot", "top.qcow2", "new.qcow2"],
    &["chain", "diff", "-f", "raw", "base.raw", "top.qcow2", "-d", "new.qcow2"],
];

#[test]
fn dry_runs_change_nothing_and_say_what_would_be_done() {
    let place = Place::with_chain();
    let before = place.files();
    for args in POSSIBLE {
        let said = place.qimg(&[args, &["--dry-run"]].concat()).success();
        assert!(said.stdout.lines().count() > 1, "{said:?}");
        if args[0] == "chain" {
            let json = place.qimg(&[args, &["--dry-run", "--output=json"]].concat()).success();
            assert!(json.json()["steps"].as_array().is_some_and(|s| !s.is_empty()), "{json:?}");
        }
        assert_eq!(place.changed_since(&before), [""; 0], "{args:?}");
    }
}

#[test]
fn what_a_plan_does_not_name_stays_as_it_is() {
    for args in POSSIBLE {
        let place = Place::with_chain();
        let (before, shown) = (place.files(), place.shows("top.qcow2"));
        let plan = place.qimg(&[args, &["--dry-run"]].concat()).success().stdout;
        let done = place.qimg(&[args, &["-p"]].concat()).success();
        let changed = place.changed_since(&before);
        assert!(changed.iter().all(|name| plan.contains(&format!("'{name}'"))), "{changed:?}");
        let percent = done.stdout.contains("(100.00/100%)");
        assert!(percent || args.contains(&"snapshot") || args.contains(&"-u"), "{done:?}");
        if !args.contains(&"-u") {
            assert_eq!(place.shows("top.qcow2"), shown, "{args:?}");
        }
    }
}

#[test]
fn numbers_are_json_when_asked_for() {
    for args in POSSIBLE.into_iter().filter(|args| args[0] == "chain" && args[1] != "snapshot") {
        let place = Place::with_chain();
        let json = place.qimg(&[args, &["--output=json"]].concat()).success().json();
        assert!(json["read"].as_u64().is_some_and(|read| read > 0), "{args:?}: {json}");
    }
}

#[test]
fn names_that_are_not_text_are_no_reason_to_fall_over() {
    let place = Place::with_chain();
    let name = std::ffi::OsStr::from_bytes(b"n\xff.qcow2");
    std::fs::rename(place.folder.path("top.qcow2"), place.folder.path(name)).unwrap();
    let words = |words: &[&'static str]| -> Vec<std::ffi::OsString> {
        words.iter().map(Into::into).chain([name.to_owned()]).collect()
    };
    for verb in ["commit", "flatten", "stream", "rebase"] {
        let said = place.qimg(&words(&["chain", verb, "--dry-run", "--output=json"])).success();
        assert!(said.json()["steps"].as_array().is_some(), "{said:?}");
    }
    let said = place.qimg(&words(&["chain", "verify", "--output=json"])).success();
    assert!(said.json()[0]["filename"].as_str().is_some_and(|name| name.starts_with('n')));
    let restore = words(&["chain", "restore", "--output=json", "mid.qcow2", "base.raw"]);
    assert_eq!(place.qimg(&restore).success().json()["layers"].as_array().unwrap().len(), 3);
    let snapshot = [&words(&["chain", "snapshot"])[..], &["on.qcow2".into()]].concat();
    place.refuses(&snapshot, "the name is not UTF-8");
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let place = Place::with_chain();
    place.refuses(&["chain", "clone", "-n", "0", "top.qcow2", "c.qcow2"], "count of 1 or more");
    place.refuses(&["chain", "snapshot", "top.qcow2"], "Expecting a new overlay");
    place.refuses(&["chain", "rebase", "--onto", "base.raw", "top.qcow2"], "expects the format");
    place.refuses(&["chain", "rebase", "--header-only", "top.qcow2"], "expects --onto");
    place.refuses(&["chain", "commit", "--from", "2", "top.qcow2"], "does not have a backing file");
    place.refuses(&["chain", "commit", "--into", "0", "top.qcow2"], "does not lie below");
    place.refuses(&["chain", "commit", "--into", "9", "top.qcow2"], "is no layer of the chain");
    place.refuses(&["chain", "stream", "--base", "top.qcow2", "top.qcow2"], "does not lie below");
    place.refuses(&["chain", "commit", "--output=xml", "top.qcow2"], "xml");
    place.refuses(&["commit", "-b", "other", "top.qcow2"], "Did not find 'other'");
    place.refuses(&["commit", "-r", "much", "top.qcow2"], "Invalid rate limit");
    place.refuses(&["rebase", "top.qcow2"], "Must specify backing file");
    place.refuses(&["rebase", "-b", "base.raw", "top.qcow2"], "backing format must be specified");
    place
        .refuses(&["chain", "diff", "top.qcow2", "--allocated", "mid.qcow2", "-d", "x"], "--delta");
}

#[test]
fn a_layer_is_found_by_the_name_that_its_overlay_has_for_it() {
    let place = Place::with_chain();
    // In the folder of whoever types this, the name means another file.
    let elsewhere = Place::with_chain();
    let (base, top) = ("base.raw", place.path("top.qcow2"));
    elsewhere.qimg(&["commit", "-q", "-b", base, &top]).success();
    assert_eq!(place.folder.read("base.raw")[..1 << 20], [2; 1 << 20]);
    assert_eq!(elsewhere.folder.read("base.raw")[0], 1);
}

#[test]
fn an_image_never_becomes_its_own_backing_file() {
    let place = Place::with_chain();
    let words = "would become its own backing file";
    for format in ["qcow2", "raw"] {
        place.refuses(&["rebase", "-b", "./top.qcow2", "-F", format, "top.qcow2"], words);
        place.refuses(&["rebase", "-u", "-b", "top.qcow2", "-F", format, "top.qcow2"], words);
    }
    place.refuses(&["chain", "rebase", "--onto", "top.qcow2", "-F", "qcow2", "mid.qcow2"], words);
    let create = ["create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "data.qcow2", "4M"];
    // The name of a data file is relative to the folder of whoever runs.
    place.qemu_img(&create);
    place.refuses(&["rebase", "-b", "data.raw", "-F", "raw", "data.qcow2"], words);
    place.overlay("on.qcow2", ("data.qcow2", "qcow2"), &["write -P 9 0 1M"]);
    place.refuses(&["rebase", "-b", "on.qcow2", "-F", "qcow2", "data.qcow2"], words);
    // A data file of a layer that lies below anyway may well be one.
    place.qimg(&["rebase", "-b", "data.raw", "-F", "raw", "on.qcow2"]).success();
}

#[test]
fn what_others_rest_on_stays_unless_forced_wherever_it_really_lies() {
    let place = Place::with_chain();
    place.overlay("other.qcow2", ("mid.qcow2", "qcow2"), &[]);
    place.refuses(&["commit", "top.qcow2"], "'other.qcow2'");
    place.refuses(&["chain", "commit", "--into", "2", "top.qcow2"], "--force");
    place.qimg(&["chain", "commit", "--from", "1", "--dry-run", "top.qcow2"]).success();
    // The same files by way of a folder of links.
    std::fs::create_dir(place.folder.path("links")).unwrap();
    for name in ["top.qcow2", "mid.qcow2", "base.raw"] {
        symlink(format!("../{name}"), place.folder.path(format!("links/{name}"))).unwrap();
    }
    place.refuses(&["commit", "links/top.qcow2"], "other.qcow2'");
    place.qimg(&["commit", "-q", "--force", "links/top.qcow2"]).success();
}

#[test]
fn the_guest_does_not_choose_what_a_guessed_base_is() {
    let place = Place::with_chain();
    place.folder.write("own.raw", &vec![1; 1 << 20]);
    // An overlay without a recorded format: version 2 images of old have none.
    place.overlay("old.qcow2", ("own.raw", "raw"), &[]);
    let mut bytes = place.folder.read("old.qcow2");
    let at = bytes.windows(4).position(|word| word == [0xe2, 0x79, 0x2a, 0xca]).unwrap();
    bytes[at..at + 4].copy_from_slice(&[0, 0, 0, 0]);
    place.folder.write("old.qcow2", &bytes);
    let image = place.folder.write("image", &place.folder.read("mid.qcow2")[..4096]);
    place.io("old.qcow2", &[&format!("write -s {} 0 4k", image.display())]);
    let words = "would look like qcow2";
    place.refuses(&["commit", "-d", "--probe-backing", "old.qcow2"], words);
    place.refuses(&["commit", "--probe-backing", "--dry-run", "old.qcow2"], words);
    place.io("old.qcow2", &["write -P 7 0 4k"]);
    place.qimg(&["commit", "-q", "--probe-backing", "old.qcow2"]).success();
}

#[test]
fn several_disks_get_their_overlays_or_none_does() {
    let place = Place::with_chain();
    let two = |second: &str, words: &str| {
        place.refuses(&["chain", "snapshot", "top.qcow2", "a.qcow2", "mid.qcow2", second], words);
        let hidden = std::fs::read_dir(place.folder.root()).unwrap();
        assert!(
            !hidden.flatten().any(|entry| entry.file_name().to_string_lossy().contains(".new"))
        );
    };
    std::fs::create_dir(place.folder.path("folder")).unwrap();
    symlink("nowhere", place.folder.path("dangling")).unwrap();
    two("a.qcow2", "named twice");
    two("./a.qcow2", "exists already");
    two("base.raw", "exists already");
    two("folder", "exists already");
    two("dangling", "exists already");
    two("missing/b.qcow2", "No such file or directory");
    place.qimg(&["chain", "clone", "-n", "3", "top.qcow2", "folder/c%.qcow2"]).success();
    place.refuses(&["chain", "clone", "-n", "3", "top.qcow2", "folder/c%.qcow2"], "exists already");
    for number in 0..3 {
        let clone = place.shows(&format!("folder/c{number}.qcow2"));
        assert!(clone == place.shows("top.qcow2"));
    }
}
