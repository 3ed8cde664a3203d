//! Tables that point where they cannot: at themselves, at each other, past the end of the file.

use testkit::{Folder, Output};

use super::image::{COPIED, Image, u64_at};
use super::program::{READERS, Use, assert_all_refuse, assert_refused, assert_unchanged};

const WRITER: [Use; 1] = [Use::Write];

#[test]
fn tables_past_the_end_of_the_file() {
    let (folder, image) = (Folder::new(), Image::new());
    let l1 = image.poked(&[u64_at(40, 1 << 40)]);
    for uses in [&READERS[..], &WRITER] {
        assert_all_refuse(&folder, &l1, uses, &["L1 table", "offset is 0x10000000000"]);
    }
    let refcounts = image.poked(&[u64_at(48, 1 << 40)]);
    assert_all_refuse(&folder, &refcounts, &WRITER, &["refcount table", "0x10000000000"]);
    let block = image.poked(&[u64_at(image.refcount_table, 1 << 40)]);
    let words = ["refcount table", "entry 0", "0x10000000000"];
    assert_all_refuse(&folder, &block, &WRITER, &words);
    let l2 = image.poked(&[u64_at(image.l1, 1 << 40 | COPIED)]);
    for uses in [&READERS[..], &WRITER] {
        assert_all_refuse(&folder, &l2, uses, &["L1 table", "entry 0", "0x10000000000"]);
    }
}

#[test]
fn tables_on_themselves_and_each_other() {
    let (folder, image) = (Folder::new(), Image::new());
    let at = |offset: u64| format!("{offset:#x}");
    for (target, owner) in
        [(image.l1, "the L1 table"), (image.refcount_table, "the refcount table")]
    {
        let bytes = image.poked(&[u64_at(image.l1, target | COPIED)]);
        let words = ["an L2 table", &at(target), owner];
        assert_all_refuse(&folder, &bytes, &READERS, &words);
        assert_all_refuse(&folder, &bytes, &WRITER, &words);
    }
    let twice = image.poked(&[u64_at(image.l1 + 8, image.l2 | COPIED)]);
    let words = ["an L2 table", &at(image.l2), "overlaps with an L2 table"];
    assert_all_refuse(&folder, &twice, &READERS, &words);
    assert_all_refuse(&folder, &twice, &WRITER, &words);
    for (target, owner) in
        [(image.refcount_table, "the refcount table"), (image.l1, "the L1 table")]
    {
        let bytes = image.poked(&[u64_at(image.refcount_table, target)]);
        assert_all_refuse(&folder, &bytes, &WRITER, &["refcount block", &at(target), owner]);
    }
    let header = image.poked(&[u64_at(48, 0)]);
    assert_all_refuse(&folder, &header, &WRITER, &["refcount table", "0x0", "the header"]);
}

#[test]
fn entries_that_are_not_aligned() {
    let (folder, image) = (Folder::new(), Image::new());
    let l1 = image.poked(&[u64_at(image.l1, (image.l2 + 512) | COPIED)]);
    let words = ["L1 table", "entry 0", "a multiple of the cluster size"];
    assert_all_refuse(&folder, &l1, &READERS, &words);
    assert_all_refuse(&folder, &l1, &WRITER, &words);
    let l2 = image.poked(&[u64_at(image.l2, (image.l2 + 512) | COPIED)]);
    let words = ["L2 table", "guest offset 0x0", "not a multiple of the cluster size"];
    assert_all_refuse(&folder, &l2, &READERS, &words);
    assert_all_refuse(&folder, &l2, &WRITER, &words);
    let block = image.poked(&[u64_at(image.refcount_table, image.refcount_block + 512)]);
    let words = ["refcount table", "entry 0", "a multiple of the cluster size"];
    assert_all_refuse(&folder, &block, &WRITER, &words);
}

/// Guest data never goes over metadata, whatever the tables say.
#[test]
fn data_on_metadata() {
    let (folder, image) = (Folder::new(), Image::new());
    for (target, owner) in [
        (image.l2, "an L2 table"),
        (image.l1, "the L1 table"),
        (image.refcount_table, "the refcount table"),
        (image.refcount_block, "a refcount block"),
    ] {
        let bytes = image.poked(&[u64_at(image.l2, target | COPIED)]);
        let words = ["guest data", &format!("{target:#x}"), owner];
        assert_all_refuse(&folder, &bytes, &WRITER, &words);
        let path = folder.write("bad.qcow2", &bytes);
        assert_eq!(Use::Check.run(&folder, &path).code, Some(2), "check finds the overlap");
        assert_unchanged(&path, &bytes);
    }
}

#[test]
fn data_that_is_not_there() {
    let (folder, image) = (Folder::new(), Image::new());
    let readers = [Use::Convert, Use::Read];
    let lost = image.poked(&[u64_at(image.l2, 1 << 50 | COPIED)]);
    let words = ["L2 table", "guest offset 0x0", "0x4000000000000", "end of the file"];
    assert_all_refuse(&folder, &lost, &readers, &words);
    let far = image.poked(&[u64_at(image.l2, 1 << 62 | 1 << 40)]);
    assert_all_refuse(&folder, &far, &readers, &["compressed cluster", "0x10000000000"]);
    let garbage = image.poked(&[u64_at(image.l2, 1 << 62 | image.refcount_table)]);
    let words = ["compressed cluster", &format!("{:#x}", image.refcount_table)];
    assert_all_refuse(&folder, &garbage, &readers, &words);
}

/// The consistency check answers what the real one answers, and changes nothing.
#[test]
fn check_counts_the_damage() {
    let (folder, image) = (Folder::new(), Image::new());
    let damages = [
        vec![u64_at(image.l1, image.l1 | COPIED)],
        vec![u64_at(image.l2, image.l2 | COPIED)],
        vec![u64_at(image.refcount_table, image.refcount_table)],
        vec![u64_at(40, 1 << 40)],
        vec![u64_at(48, 1 << 40)],
    ];
    for pokes in damages {
        let bytes = image.poked(&pokes);
        let path = folder.write("bad.qcow2", &bytes);
        let ours: Output = Use::Check.run(&folder, &path);
        let theirs = testkit::Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()]);
        assert_eq!((ours.code, theirs.code), (Some(2), Some(2)), "{ours:?}");
        assert!(ours.stderr.lines().count() + ours.stdout.lines().count() > 2, "{ours:?}");
        assert_unchanged(&path, &bytes);
    }
    // The reader of this test: a sound image is refused by nobody.
    let path = folder.write("good.qcow2", &image.bytes);
    for one in super::program::ALL.into_iter().filter(|one| *one != Use::Write) {
        assert_eq!(one.run(&folder, &path).code, Some(0), "{one:?}");
    }
    assert_unchanged(&path, &image.bytes);
    let output = Use::Write.run(&folder, &path);
    assert!(std::panic::catch_unwind(|| assert_refused(Use::Write, &output, &[])).is_err());
}
