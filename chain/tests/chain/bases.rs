//! Backing files that are still what they were, and those that are not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use block_io::{Create, OpenOptions as FileOptions};
use chain::{BaseVerdict, Chain, Error, Format, OpenOptions, Policy, pin_of};
use cow_engine::{BackingReference, CreateOptions};
use testkit::{Folder, Pattern, Qemu};

const SIZE: u64 = 1 << 20;

/// An overlay on `base`, with a record of it.
fn overlay(folder: &Folder, name: &str, base: &str, format: Format) -> PathBuf {
    let path = folder.path(name);
    let mut options = CreateOptions::new(SIZE);
    options.backing =
        Some(BackingReference { name: base.to_owned(), format: Some(format.to_string()) });
    let below = FileOptions::new().open(folder.path(base)).unwrap();
    options.base_pin = Some(pin_of(&below, format, base).unwrap());
    let storage = FileOptions::new().write(true).create(Create::New).open(&path).unwrap();
    cow_engine::create(&storage, &options).unwrap();
    path
}

fn qcow2() -> OpenOptions {
    OpenOptions::new().format(Format::Qcow2).read_only(true)
}

fn verdict(top: &Path) -> BaseVerdict {
    let chain = Chain::open(top, &qcow2()).unwrap();
    let strict = qcow2().policy(Policy::new().require_same_base(true));
    let verdict = chain.base_verdict(0);
    assert_eq!(Chain::open(top, &strict).is_ok(), verdict.is_harmless());
    verdict
}

/// A raw base of a folder of its own, and an overlay.
fn raw() -> (Folder, PathBuf, PathBuf) {
    let folder = Folder::new();
    let base = folder.write("base.raw", &Pattern::new(1).bytes(0, SIZE as usize));
    let top = overlay(&folder, "top.qcow2", "base.raw", Format::Raw);
    (folder, base, top)
}

/// Some other time, as the host's clock may stand still during the whole test.
fn age(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(1000)).unwrap();
}

#[test]
fn a_base_that_nobody_has_touched_is_the_same() {
    let (_folder, _, top) = raw();
    assert_eq!(verdict(&top), BaseVerdict::Same);
    assert_eq!(Chain::open(&top, &qcow2()).unwrap().base_findings().count(), 0);
}

#[test]
fn a_base_that_was_written_to_is_modified() {
    let (_folder, base, top) = raw();
    let file = File::options().write(true).open(&base).unwrap();
    file.write_all_at(&[0x77; 4096], SIZE - 4096).unwrap();
    age(&base);
    assert_eq!(verdict(&top), BaseVerdict::Modified);
    let chain = Chain::open(&top, &qcow2()).unwrap();
    let finding = chain.base_findings().next().unwrap();
    assert_eq!((&finding.overlay, &finding.base), (&top, &base));
    let text = finding.to_string();
    assert!(text.ends_with("was modified since the overlay was made (its content is another)"));
    file.set_len(SIZE + 100).unwrap();
    let chain = Chain::open(&top, &qcow2()).unwrap();
    let text = chain.base_findings().next().unwrap().to_string();
    assert!(text.ends_with("(its virtual size was 1048576 bytes, is 1049088)"), "{text}");
}

#[test]
fn a_base_with_another_time_may_have_been_modified() {
    let (_folder, base, top) = raw();
    age(&base);
    assert_eq!(verdict(&top), BaseVerdict::Touched);
}

#[test]
fn another_file_is_a_copy_or_not() {
    let (folder, base, top) = raw();
    // As long as it has a name, no other file gets its inode.
    fs::hard_link(&base, folder.path("original")).unwrap();
    let copy = folder.path("copy");
    fs::copy(&base, &copy).unwrap();
    fs::rename(&copy, &base).unwrap();
    assert_eq!(verdict(&top), BaseVerdict::Copied);
    folder.write("copy", &Pattern::new(2).bytes(0, SIZE as usize));
    fs::rename(&copy, &base).unwrap();
    assert_eq!(verdict(&top), BaseVerdict::Replaced);
}

#[test]
fn images_without_a_record_work_as_before() {
    let (folder, base, _) = raw();
    let top = folder.path("theirs.qcow2");
    let path = top.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", path]).success();
    age(&base);
    assert_eq!(verdict(&top), BaseVerdict::NotRecorded);
    assert_eq!(Chain::open(&top, &qcow2()).unwrap().base_findings().count(), 0);
}

/// The layer in the middle was written to: the one above it says so, the one below is as it was.
#[test]
fn each_layer_answers_for_its_own_base() {
    let (folder, _, _) = raw();
    let middle = folder.path("top.qcow2");
    let top = overlay(&folder, "upper.qcow2", "top.qcow2", Format::Qcow2);
    assert_eq!(verdict(&top), BaseVerdict::Same);
    let path = middle.to_str().unwrap();
    Qemu::io(["-f", "qcow2", "-c", "write -P 9 0 64k", path]).success();
    age(&middle);
    assert_eq!(verdict(&top), BaseVerdict::Modified);
    let chain = Chain::open(&top, &qcow2()).unwrap();
    let verdicts: Vec<_> = (0..4).map(|depth| chain.base_verdict(depth)).collect();
    use BaseVerdict::{Modified, NotRecorded, Same};
    assert_eq!(verdicts, [Modified, Same, NotRecorded, NotRecorded]);
}

#[test]
fn a_strict_policy_names_layer_base_difference_and_the_way_out() {
    let (_folder, base, top) = raw();
    File::options().write(true).open(&base).unwrap().set_len(SIZE - 512).unwrap();
    let before = fs::read(&top).unwrap();
    let strict =
        OpenOptions::new().format(Format::Qcow2).policy(Policy::new().require_same_base(true));
    let error = Chain::open(&top, &strict).unwrap_err();
    assert!(matches!(&error, Error::ChangedBase(found) if found.verdict == BaseVerdict::Modified));
    let expected = format!(
        "'{}': its backing file '{}' was modified since the overlay was made (its virtual size was \
         1048576 bytes, is 1048064); Policy::require_same_base(false) opens it all the same",
        top.display(),
        base.display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(fs::read(&top).unwrap() == before);
}

/// The record as the header has it.
fn recorded(path: &Path) -> Option<cow_engine::BasePin> {
    cow_engine::read_header(&FileOptions::new().open(path).unwrap()).unwrap().base_pin()
}

#[test]
fn the_real_tools_ignore_the_record_and_keep_it() {
    let (_folder, _, top) = raw();
    let path = top.to_str().unwrap();
    let before = recorded(&top);
    assert!(before.is_some());
    Qemu::check(&top);
    let info = Qemu::info_json("qcow2", &top);
    assert_eq!(info["backing-filename"], "base.raw");
    assert_eq!(info["backing-filename-format"], "raw");
    Qemu::io(["-f", "qcow2", "-c", "write -P 3 64k 64k", path]).success();
    assert_eq!(recorded(&top), before);
    // Cluster 0 is written anew.
    for option in ["lazy_refcounts=on", "compat=0.10", "compat=1.1"] {
        Qemu::img(["amend", "-f", "qcow2", "-o", option, path]).success();
        assert_eq!(recorded(&top), before, "{option}");
        assert_eq!(verdict(&top), BaseVerdict::Same, "{option}");
    }
    Qemu::img(["snapshot", "-c", "one", path]).success();
    Qemu::img(["snapshot", "-d", "one", path]).success();
    assert_eq!(recorded(&top), before);
    Qemu::img(["commit", "-q", "-f", "qcow2", path]).success();
    assert_eq!(recorded(&top), before);
    assert_ne!(verdict(&top), BaseVerdict::Same, "a commit writes to the base");
    Qemu::check(&top);
}

#[test]
fn a_record_about_a_name_that_is_gone_is_stale() {
    let (folder, base, top) = raw();
    fs::copy(&base, folder.path("other.raw")).unwrap();
    let path = top.to_str().unwrap();
    Qemu::img(["rebase", "-u", "-f", "qcow2", "-b", "other.raw", "-F", "raw", path]).success();
    assert!(recorded(&top).is_some());
    assert_eq!(verdict(&top), BaseVerdict::StaleRecord);
    // Safely, it is no different.
    Qemu::img(["rebase", "-f", "qcow2", "-b", "base.raw", "-F", "raw", path]).success();
    assert_eq!(verdict(&top), BaseVerdict::Same, "the old name, and the old file");
    Qemu::img(["rebase", "-f", "qcow2", "-b", "", path]).success();
    assert!(recorded(&top).is_some());
    assert_eq!(verdict(&top), BaseVerdict::NotRecorded, "nothing below");
    Qemu::check(&top);
}
