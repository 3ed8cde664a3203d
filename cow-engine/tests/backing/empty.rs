//! Emptying, compared with what the real tool leaves of an overlay after a commit.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, Image, OpenOptions};
use qcow2_format::Version;
use testkit::{Folder, Pattern, Qemu};

use crate::images::{self, bytes, open_over, read_all};
use crate::kinds::{Data, Kind};
use crate::test_backing::TestBacking;

const SIZE: u64 = 1 << 20;

fn below() -> (Vec<u8>, Option<Arc<dyn Backing>>) {
    let bytes = Pattern::new(1).bytes(0, SIZE as usize);
    (bytes.clone(), Some(Arc::new(TestBacking::new(bytes))))
}

#[test]
fn the_backing_file_shows_everywhere_and_the_file_is_short_again() {
    for kind in [
        Kind::standard(SIZE, 9),
        Kind::standard(SIZE, 16),
        Kind::standard(SIZE, 12).lazy(),
        Kind::standard(SIZE, 12).width(0),
        Kind::extended(SIZE, 14),
        Kind { version: Version::V2, ..Kind::standard(SIZE, 12) },
    ] {
        let media = kind.memory();
        let empty = bytes(&*media.image).len();
        let (expected, backing) = below();
        let mut image = kind.open(&media, backing.clone());
        image.write_at(1000, &vec![7; 600_000]).unwrap();
        image.write_zeroes_at(700_000, 100_000, cow_engine::ZeroMode::Unmap).unwrap();
        image.empty().unwrap();
        assert!(read_all(&image) == expected, "{kind:?}");
        // It is as good as new.
        image.write_at(5000, &[9; 5000]).unwrap();
        image.empty().unwrap();
        image.close().unwrap();
        testkit::census::assert_clean(&bytes(&*media.image));
        images::check_clean(&*media.image);
        // A refcount table that has grown stays where it is.
        let len = bytes(&*media.image).len();
        assert!(len <= empty.next_multiple_of(1 << 16), "{len} bytes, new {empty}: {kind:?}");
    }
}

#[test]
fn the_same_as_the_real_tool_leaves_after_a_commit() {
    for options in ["compat=1.1", "compat=0.10", "compat=1.1,extended_l2=on", "cluster_size=4k"] {
        let folder = Folder::new();
        let (base, backing) = below();
        folder.write("base.raw", &base);
        let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
        let (ours, theirs) = (path("ours.qcow2"), path("theirs.qcow2"));
        let base = ["-b", "base.raw", "-F", "raw"];
        Qemu::img(["create", "-q", "-f", "qcow2", "-o", options, &ours].into_iter().chain(base))
            .success();
        Qemu::io(["-f", "qcow2", "-c", "write -P 5 10k 300k", "-c", "write -z 400k 128k", &ours])
            .success();
        std::fs::copy(&ours, &theirs).unwrap();
        Qemu::img(["commit", "-q", "-f", "qcow2", &theirs]).success();
        let storage = Arc::new(MemoryStorage::new());
        storage.write_at(0, &std::fs::read(&ours).unwrap()).unwrap();
        let mut image = open_over(&storage, backing);
        image.empty().unwrap();
        image.close().unwrap();
        let ours = folder.write("ours.qcow2", &bytes(&*storage));
        Qemu::check(&ours);
        let theirs = folder.path("theirs.qcow2");
        assert_eq!(Qemu::map_json("qcow2", &ours), Qemu::map_json("qcow2", &theirs));
        Qemu::assert_same(("qcow2", &theirs), ("qcow2", &ours));
    }
}

#[test]
fn internal_snapshots_stay_as_they_are() {
    let folder = Folder::new();
    let image = folder.path("image.qcow2");
    let path = image.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1M"]).success();
    Qemu::io(["-f", "qcow2", "-c", "write -P 1 0 500k", path]).success();
    Qemu::img(["snapshot", "-c", "one", path]).success();
    Qemu::io(["-f", "qcow2", "-c", "write -P 2 100k 600k", path]).success();
    let storage = Arc::new(MemoryStorage::new());
    storage.write_at(0, &std::fs::read(path).unwrap()).unwrap();
    let (expected, backing) = below();
    let mut opened = open_over(&storage, backing);
    opened.empty().unwrap();
    assert!(read_all(&opened) == expected);
    opened.close().unwrap();
    testkit::census::assert_clean(&bytes(&*storage));
    let image = folder.write("image.qcow2", &bytes(&*storage));
    Qemu::check(&image);
    Qemu::img(["snapshot", "-a", "one", path]).success();
    Qemu::check(&image);
    let mut snapshot = vec![1; 500 << 10];
    snapshot.resize(SIZE as usize, 0);
    let raw = folder.write("expected.raw", &snapshot);
    Qemu::assert_same(("raw", &raw), ("qcow2", &image));
}

#[test]
fn the_state_of_a_virtual_machine_goes_too() {
    let folder = Folder::new();
    let image = folder.path("image.qcow2");
    let path = image.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", path, "1M"]).success();
    let empty = std::fs::metadata(path).unwrap().len();
    Qemu::io(["-f", "qcow2", "-c", "write -b -P 7 0 256k", path]).success();
    let storage = Arc::new(MemoryStorage::new());
    storage.write_at(0, &std::fs::read(path).unwrap()).unwrap();
    let mut opened = open_over(&storage, None);
    opened.empty().unwrap();
    opened.close().unwrap();
    images::check_clean(&*storage);
    assert!(storage.len().unwrap() < empty + (256 << 10));
}

#[test]
fn a_data_file_is_punched() {
    let kind = Kind::standard(SIZE, 16).with_data(Data::Outside);
    let media = kind.memory();
    let (expected, backing) = below();
    let mut image = kind.open(&media, backing);
    image.write_at(0, &vec![3; 400_000]).unwrap();
    image.flush().unwrap();
    let data = media.data.as_ref().unwrap();
    assert!(data.allocated_bytes().unwrap() >= 400_000);
    image.empty().unwrap();
    assert_eq!(data.allocated_bytes().unwrap(), 0);
    assert!(read_all(&image) == expected);
    image.close().unwrap();
    testkit::census::assert_clean(&bytes(&*media.image));
}

#[test]
fn refusals_leave_everything_as_it_was() {
    let kind = Kind::standard(SIZE, 16).with_data(Data::Raw);
    let media = kind.memory();
    let mut image = kind.open(&media, None);
    image.write_at(0, &[3; 4000]).unwrap();
    insta::assert_snapshot!(image.empty().unwrap_err(), @"option data_file_raw is on, allowed is off in an image that is to be emptied");
    assert_eq!(images::read(&image, 0, 4000), [3; 4000]);
    let storage: Arc<dyn Storage> = images::memory(SIZE, 16);
    let mut image = Image::open(storage, OpenOptions::new().read_only(true)).unwrap();
    insta::assert_snapshot!(image.empty().unwrap_err(), @"image was opened read-only");
}
