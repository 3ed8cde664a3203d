//! Where others went wrong, each with the real tools as witness.

use std::path::Path;
use std::sync::Arc;

use block_io::{Create, FileStorage, Locking, OpenOptions as FileOptions, Storage};
use cow_engine::{
    Backing, BackingReference, CreateOptions, DataFileReference, Error, Image, OpenOptions,
    Preallocation, ResizeOptions, ResizeRefusal, ZeroMode,
};
use qcow2_format::Version;
use testkit::{Folder, Qemu};

use crate::images;
use crate::test_backing::TestBacking;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn file(path: &Path) -> Arc<dyn Storage> {
    let options = FileOptions::new().write(true).locking(Locking::Off);
    let file: FileStorage = options.create(Create::IfMissing).open(path).unwrap();
    Arc::new(file)
}

fn open(path: &Path) -> Image {
    Image::open(file(path), OpenOptions::new()).unwrap()
}

fn grow() -> ResizeOptions {
    ResizeOptions::new()
}

fn shrink() -> ResizeOptions {
    ResizeOptions::new().shrink(true)
}

fn resize(path: &Path, size: u64, options: ResizeOptions) {
    let mut image = open(path);
    image.resize(size, options).unwrap();
    image.close().unwrap();
    Qemu::check(path);
}

/// Asserts that the real tool reads a byte all over a range.
#[track_caller]
fn reads(path: &Path, pattern: u8, offset: u64, len: u64) {
    let command = format!("read -P {pattern} {offset} {len}");
    let said = Qemu::io(["-f", "qcow2", "-c", &command, path.to_str().unwrap()]).success();
    assert!(!said.stdout.contains("verification failed"), "{command}: {}", said.stdout);
    assert!(said.stdout.contains("read "), "{command}: {}", said.stdout);
}

#[track_caller]
fn qemu_io(path: &Path, command: &str) {
    let said = Qemu::io(["-f", "qcow2", "-c", command, path.to_str().unwrap()]).success();
    assert!(!said.stdout.contains("failed"), "{command}: {}", said.stdout);
}

fn qemu_create(path: &Path, options: &[&str], size: &str) {
    let name = path.to_str().unwrap();
    Qemu::img([&["create", "-q", "-f", "qcow2"], options, &[name, size]].concat()).success();
}

fn qemu_resize(path: &Path, flags: &[&str], size: &str) {
    let name = path.to_str().unwrap();
    Qemu::img([&["resize", "-q", "-f", "qcow2"], flags, &[name, size]].concat()).success();
}

fn l1_size(path: &Path) -> u32 {
    images::word(&*file(path), 36).checked_shr(32).unwrap() as u32
}

#[test]
fn trap_15_a_longer_l1_table_is_kept() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    qemu_create(&path, &[], "1M");
    qemu_io(&path, "write -b -P 7 0 64k");
    let before = l1_size(&path);
    assert!(before >= 2, "{before}");
    resize(&path, 2 * MIB, grow());
    resize(&path, MIB, shrink());
    assert_eq!(l1_size(&path), before);
    qemu_create(&path, &[], "2G");
    resize(&path, MIB, shrink());
    assert_eq!(l1_size(&path), 4);
    resize(&path, 600 * MIB, grow());
    assert_eq!(l1_size(&path), 4);
}

#[test]
fn trap_56_growth_does_not_show_the_state_of_a_machine() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    for size in [600 * MIB, 1 << 30, 4 << 30] {
        qemu_create(&path, &[], "1M");
        qemu_io(&path, "write -P 5 0 64k");
        qemu_io(&path, "write -b -P 7 0 64k");
        resize(&path, size, grow());
        reads(&path, 0, 512 * MIB, 64 * KIB);
        reads(&path, 5, 0, 64 * KIB);
    }
    // The same size of the table: the state lies where it lay.
    qemu_create(&path, &[], "1M");
    qemu_io(&path, "write -b -P 7 0 64k");
    resize(&path, 2 * MIB, grow());
    qemu_io(&path, "read -b -P 7 0 64k");
}

#[test]
fn trap_75_growth_over_a_longer_backing_file_shows_zeros() {
    let folder = Folder::new();
    let base = folder.write("base.raw", &[0x55; 100_000]);
    for by_us in [true, false] {
        let path = folder.path("top.qcow2");
        let backing = ["-b", base.to_str().unwrap(), "-F", "raw"];
        qemu_create(&path, &backing, "70000");
        if by_us {
            let below = Arc::new(TestBacking::ignorant(vec![0x55; 100_000])) as Arc<dyn Backing>;
            let options = OpenOptions::new().backing(Some(below));
            let mut image = Image::open(file(&path), options).unwrap();
            image.resize(256 * KIB, grow()).unwrap();
            let mut found = vec![1; 256 * KIB as usize];
            image.read_at(0, &mut found).unwrap();
            assert!(found[70_144..].iter().all(|&byte| byte == 0));
            image.close().unwrap();
        } else {
            qemu_resize(&path, &[], "256k");
        }
        Qemu::check(&path);
        reads(&path, 0x55, 0, 70_000);
        reads(&path, 0, 70_144, 256 * KIB - 70_144);
    }
}

#[test]
fn trap_76_bytes_that_were_cut_off_stay_away() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    let by_us = |size: u64| resize(&path, size, shrink());
    let by_qemu = |size: u64| qemu_resize(&path, &["--shrink"], &size.to_string());
    let both: [&dyn Fn(u64); 2] = [&by_us, &by_qemu];
    for (cuts, grows) in [(0, 0), (0, 1), (1, 0)] {
        for command in ["write -P 0x11 0 128k", "write -c -P 0x11 64k 64k"] {
            qemu_create(&path, &[], "128k");
            qemu_io(&path, command);
            both[cuts](100 * KIB);
            both[grows](128 * KIB);
            reads(&path, 0x11, 64 * KIB, 36 * KIB);
            reads(&path, 0, 100 * KIB, 28 * KIB);
        }
    }
}

#[test]
fn trap_78_sizes_are_not_rounded() {
    let storage = images::memory(MIB, 16);
    let mut image = images::open(&storage);
    let before = images::bytes(&*storage);
    for size in [MIB + 1, MIB + 80_000] {
        let refused = image.resize(size, grow());
        let Err(Error::Resize(ResizeRefusal::Unaligned { found })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(found, size);
    }
    assert!(images::bytes(&*storage) == before, "a refusal has changed the file");
}

#[test]
fn trap_79_version_2_cannot_hide_a_longer_backing_file() {
    let storage = Arc::new(block_io::MemoryStorage::new());
    cow_engine::create(&*storage, &images::options(64 * KIB, 16, Version::V2)).unwrap();
    let below: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![1; 100_000]));
    let mut image = images::open_over(&storage, Some(below));
    let refused = image.resize(MIB, grow());
    assert!(
        matches!(refused, Err(Error::Resize(ResizeRefusal::LongerBacking { .. }))),
        "{refused:?}"
    );
    assert_eq!(image.virtual_size(), 64 * KIB);
    image.resize(32 * KIB, shrink()).unwrap();
    // Up to the end of the cluster zeros can be written.
    image.resize(64 * KIB, grow()).unwrap();
    let found = images::read_all(&image);
    assert_eq!(found[32 * KIB as usize - 1..][..2], [1, 0]);
}

#[test]
fn an_unknown_backing_file_is_not_grown_over() {
    let folder = Folder::new();
    let base = folder.write("base.raw", &[0x55; 100_000]);
    let path = folder.path("top.qcow2");
    let reference =
        BackingReference { name: base.to_str().unwrap().to_owned(), format: Some("raw".into()) };
    let options = CreateOptions { backing: Some(reference), ..CreateOptions::new(64 * KIB) };
    cow_engine::create(&*file(&path), &options).unwrap();
    let mut image = open(&path);
    let refused = image.resize(MIB, grow());
    assert!(matches!(refused, Err(Error::Resize(ResizeRefusal::UnknownBacking))), "{refused:?}");
    image.resize(32 * KIB, shrink()).unwrap();
    image.close().unwrap();
    reads(&path, 0x55, 0, 32 * KIB);
}

/// The reference implementation maps freed clusters ahead with whatever lies in them.
#[test]
fn clusters_mapped_ahead_read_as_zeros_wherever_they_come_from() {
    let folder = Folder::new();
    for how in [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full] {
        let path = folder.path("image.qcow2");
        qemu_create(&path, &[], "1M");
        qemu_io(&path, "write -c -P 0x11 0 64k");
        qemu_io(&path, "write -P 0x22 64k 512k");
        qemu_io(&path, "write -z -u 64k 256k");
        resize(&path, 4 * MIB, grow().preallocation(how));
        reads(&path, 0x11, 0, 64 * KIB);
        reads(&path, 0, MIB, 3 * MIB);
        let map = Qemu::map_json("qcow2", &path);
        let mapped =
            map.as_array().unwrap().iter().filter(|part| part["start"].as_u64() >= Some(MIB));
        assert!(mapped.clone().all(|part| part["present"] == true), "{map:#}");
    }
}

#[test]
fn a_cut_image_ends_behind_its_last_cluster() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    // 512-byte clusters: a refcount block for every 128 KiB, and a table that has moved.
    qemu_create(&path, &["-o", "cluster_size=512"], "16M");
    qemu_io(&path, "write -P 5 0 16M");
    let before = file(&path).len().unwrap();
    resize(&path, 64 * KIB, shrink());
    let after = file(&path).len().unwrap();
    reads(&path, 5, 0, 64 * KIB);
    let end = Qemu::img(["check", "--output=json", path.to_str().unwrap()]).success().json();
    assert_eq!(end["image-end-offset"].as_u64(), Some(after), "of {before}");
    // What grows again is as good as new.
    resize(&path, 16 * MIB, grow());
    reads(&path, 0, 64 * KIB, 16 * MIB - 64 * KIB);
    qemu_io(&path, "write -P 6 64k 4M");
    Qemu::check(&path);
}

#[test]
fn lazy_refcounts_wait_for_no_resize() {
    let storage = images::memory(MIB, 12);
    let opened = || {
        let storage: Arc<dyn Storage> = Arc::<block_io::MemoryStorage>::clone(&storage);
        Image::open(storage, OpenOptions::new().lazy_refcounts(true)).unwrap()
    };
    let mut image = opened();
    for (size, byte) in [(8 * MIB, 1), (2 * MIB, 2), (256 * KIB, 3), (16 * MIB, 4)] {
        image.write_at(100 * KIB, &[byte; 50_000]).unwrap();
        image.flush().unwrap();
        assert_eq!(images::word(&*storage, 72) & 1, 1, "the dirty bit is set");
        image.resize(size, shrink()).unwrap();
        crate::census::assert_clean(&images::bytes(&*storage));
        assert_eq!(images::read(&image, 100 * KIB, 50_000), [byte; 50_000]);
    }
    image.write_zeroes_at(0, 16 * MIB, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    crate::census::assert_clean(&images::bytes(&*storage));
    assert_eq!(images::word(&*storage, 72) & 1, 0, "and lowered in the end");
}

#[test]
fn trap_65_a_raw_data_file_is_mapped_as_far_as_the_disk_reaches() {
    let folder = Folder::new();
    let (path, data) = (folder.path("image.qcow2"), folder.path("data.raw"));
    let raw = |on: bool| {
        let name = data.to_str().unwrap().to_owned();
        let data_file = Some(DataFileReference { name, raw: on });
        let options = CreateOptions { data_file, ..CreateOptions::new(MIB) };
        cow_engine::create_with_data_file(&*file(&path), &*file(&data), &options).unwrap();
    };
    for on in [true, false] {
        raw(on);
        qemu_io(&path, "write -P 9 0 1M");
        let options = || OpenOptions::new().data_file(Some(file(&data)));
        let mut image = Image::open(file(&path), options()).unwrap();
        image.resize(300 * KIB, shrink()).unwrap();
        assert_eq!(file(&data).len().unwrap(), 300 * KIB);
        image.close().unwrap();
        Qemu::check(&path);
        // Bytes that somebody left behind the end of the disk are not new area.
        file(&data).write_at(300 * KIB, &[0xee; 1 << 20]).unwrap();
        let mut image = Image::open(file(&path), options()).unwrap();
        image.resize(4 * MIB, grow()).unwrap();
        image.close().unwrap();
        Qemu::check(&path);
        reads(&path, 9, 0, 300 * KIB);
        reads(&path, 0, 300 * KIB, 4 * MIB - 300 * KIB);
        assert_eq!(file(&data).len().unwrap(), 4 * MIB);
        let map = Qemu::map_json("qcow2", &path);
        let present = map.as_array().unwrap().iter().all(|part| part["present"] == true);
        assert_eq!(present, on, "{map:#}");
    }
}

/// A disk with a snapshot of it, and other bytes than then in some places.
fn with_snapshot(path: &Path, options: &[&str]) {
    qemu_create(path, options, "1M");
    qemu_io(path, "write -P 5 0 1M");
    Qemu::img(["snapshot", "-c", "then", path.to_str().unwrap()]).success();
    qemu_io(path, "write -P 6 100k 300k");
    qemu_io(path, "write -P 7 960k 64k");
}

#[test]
fn trap_54_a_snapshot_keeps_what_the_disk_gives_up() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    for options in [&["-o", "cluster_size=4k"][..], &[], &["-o", "extended_l2=on"]] {
        with_snapshot(&path, options);
        for size in [200 * KIB, 64 * KIB + 512, 1 << 30, 512, 900 * KIB] {
            resize(&path, size, shrink());
            let copy = folder.write("copy.qcow2", &folder.read("image.qcow2"));
            Qemu::img(["snapshot", "-a", "then", copy.to_str().unwrap()]).success();
            Qemu::check(&copy);
            reads(&copy, 5, 0, MIB);
            reads(&path, 5, 0, 512);
        }
        reads(&path, 0, 512, 900 * KIB - 512);
        Qemu::img(["snapshot", "-a", "then", path.to_str().unwrap()]).success();
        resize(&path, 2 * MIB, grow());
        reads(&path, 5, 0, MIB);
        reads(&path, 0, MIB, MIB);
    }
}

#[test]
fn trap_79_version_2_with_snapshots_keeps_its_size() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    with_snapshot(&path, &["-o", "compat=0.10"]);
    let before = folder.read("image.qcow2");
    let mut image = open(&path);
    for size in [2 * MIB, 512 * KIB] {
        let refused = image.resize(size, shrink());
        let snapshots =
            matches!(refused, Err(Error::Resize(ResizeRefusal::Snapshots { count: 1 })));
        assert!(snapshots, "{refused:?}");
    }
    image.close().unwrap();
    assert!(folder.read("image.qcow2") == before, "a refusal has changed the file");
}
