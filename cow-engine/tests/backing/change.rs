//! Another backing file as users of the engine and the real tools see it.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{BackingReference, BasePin, Error, Image, OpenOptions, PinnedFormat, read_header};
use qcow2_format::Version;
use testkit::{CallSet, Fault, FaultStorage, Folder, Qemu};

use crate::images::{self, bytes, open, read_all};
use crate::kinds::{Data, Kind};

pub(crate) fn reference(name: &str, format: Option<&str>) -> BackingReference {
    BackingReference { name: name.to_owned(), format: format.map(str::to_owned) }
}

pub(crate) fn pin() -> BasePin {
    BasePin {
        format: PinnedFormat::Raw,
        virtual_size: 1 << 20,
        file_bytes: 1 << 20,
        modified: Some(1_700_000_000_000_000_000),
        inode: Some(7),
        mark: 99,
        name_hash: 0,
        content_hash: None,
    }
}

/// Name and format of the backing file, as the real tool sees them.
fn told_by_qemu(folder: &Folder, storage: &dyn Storage) -> (Option<String>, Option<String>) {
    let path = folder.write("image.qcow2", &bytes(storage));
    Qemu::check(&path);
    let info = Qemu::info_json("qcow2", &path);
    let text = |key: &str| info.get(key).and_then(|text| text.as_str()).map(str::to_owned);
    (text("backing-filename"), text("backing-filename-format"))
}

#[test]
fn the_real_tools_see_the_new_backing_file() {
    let folder = Folder::new();
    folder.write("base.raw", &vec![3; 1 << 20]);
    Qemu::img(["create", "-q", "-f", "qcow2", folder.path("other.qcow2").to_str().unwrap(), "1M"])
        .success();
    for (cluster_bits, version) in [(9, Version::V3), (16, Version::V2), (16, Version::V3)] {
        let storage = Arc::new(MemoryStorage::new());
        let options = images::options(1 << 20, cluster_bits, version);
        cow_engine::create(&*storage, &options).unwrap();
        let mut image = open(&storage);
        image.write_at(70_000, &[5; 3000]).unwrap();
        let own = read_all(&image);
        for (to, pin) in [
            (Some(reference("base.raw", Some("raw"))), Some(pin())),
            (Some(reference("other.qcow2", Some("qcow2"))), None),
            (Some(reference("base.raw", None)), None),
            (None, Some(pin())),
        ] {
            image.change_backing(to.as_ref(), pin.as_ref()).unwrap();
            let told = told_by_qemu(&folder, &*storage);
            let name = to.as_ref().map(|to| to.name.clone());
            assert_eq!(told.0, name);
            // Without a format the real tool looks into the file.
            assert!(to.is_none() || to.unwrap().format.is_none_or(|format| told.1 == Some(format)));
            let pin = pin.zip(name).map(|(pin, name)| pin.with_name(name.as_bytes()));
            assert_eq!(image.header().base_pin(), pin);
            assert_eq!(*image.header(), read_header(&*storage).unwrap());
        }
        assert!(read_all(&image) == own);
        image.close().unwrap();
        images::check_clean(&*storage);
    }
}

#[test]
fn what_answers_below_stays_until_the_image_is_opened_again() {
    let storage = images::memory(1 << 20, 16);
    let mut image = open(&storage);
    image.change_backing(Some(&reference("base", Some("raw"))), None).unwrap();
    // The header says that there is something below, so a discard hides it.
    image.write_at(0, &[1; 65536]).unwrap();
    image.discard_at(0, 65536).unwrap();
    image.close().unwrap();
    let entry = images::word(&*storage, images::l2_entry_at(&*storage, 0));
    assert_eq!(entry, 1, "a zero cluster");
}

/// The refcount table moves while the image is open, and only the disk knows.
#[test]
fn the_header_on_disk_counts_not_the_one_in_memory() {
    let storage = images::memory(12 << 20, 9);
    let mut image = open(&storage);
    let before = read_header(&*storage).unwrap().refcount_table();
    image.write_at(0, &vec![1; 9 << 20]).unwrap();
    image.flush().unwrap();
    let moved = read_header(&*storage).unwrap().refcount_table();
    assert_ne!(moved, before);
    image.change_backing(Some(&reference("base", Some("raw"))), None).unwrap();
    assert_eq!(read_header(&*storage).unwrap().refcount_table(), moved);
    image.close().unwrap();
    testkit::census::assert_clean(&bytes(&*storage));
}

#[test]
fn a_dirty_image_stays_marked_until_it_is_closed() {
    let kind = Kind::standard(1 << 20, 12).lazy();
    let media = kind.memory();
    let mut image = kind.open(&media, None);
    image.write_at(0, &[1; 5000]).unwrap();
    image.flush().unwrap();
    assert!(testkit::census::take(&bytes(&*media.image)).dirty);
    image.change_backing(Some(&reference("base", Some("raw"))), None).unwrap();
    assert!(testkit::census::take(&bytes(&*media.image)).dirty);
    image.close().unwrap();
    testkit::census::assert_clean(&bytes(&*media.image));
    assert!(!testkit::census::take(&bytes(&*media.image)).dirty);
}

#[test]
fn refusals_leave_the_file_as_it_was() {
    let kind = Kind::standard(1 << 20, 9);
    let media = kind.memory();
    let before = bytes(&*media.image);
    let mut image = kind.open(&media, None);
    let error = |image: &mut Image, name: &str, format: Option<&str>| {
        image.change_backing(Some(&reference(name, format)), None).unwrap_err().to_string()
    };
    insta::assert_snapshot!(error(&mut image, &"x".repeat(400), Some("raw")), @"header: 536 bytes do not fit into the 512 of cluster 0");
    insta::assert_snapshot!(error(&mut image, &"x".repeat(1024), Some("raw")), @"header: backing_file_size at offset 0x10 is 1024, allowed is 0..=1023");
    insta::assert_snapshot!(error(&mut image, "x", Some("a-format-of-20-bytes")), @"header extension 0xe2792aca: length is 20, allowed is 0..=15");
    image.write_at(0, &[1]).unwrap();
    assert!(bytes(&*media.image)[..512] == before[..512]);
    // With room for the name alone, that is what is written.
    let long = reference(&"x".repeat(300), Some("raw"));
    image.change_backing(Some(&long), Some(&pin())).unwrap();
    assert_eq!(image.header().base_pin(), None);
    image.change_backing(Some(&reference("x", Some("raw"))), Some(&pin())).unwrap();
    assert!(image.header().base_pin().is_some());
    image.close().unwrap();

    let raw = Kind::standard(1 << 20, 16).with_data(Data::Raw);
    let media = raw.memory();
    let mut image = raw.open(&media, None);
    insta::assert_snapshot!(error(&mut image, "base", None), @"option backing_file is base, allowed is none with data_file_raw");
    image.change_backing(None, None).unwrap();

    let storage: Arc<dyn Storage> = images::memory(1 << 20, 16);
    let mut image = Image::open(storage, OpenOptions::new().read_only(true)).unwrap();
    assert!(matches!(image.change_backing(None, None), Err(Error::ReadOnly)));
}

/// Each call to the host fails in turn: the header is the old one or the new one, and after a failure
/// in the middle nothing more is written.
#[test]
fn a_host_that_fails_leaves_one_of_the_two() {
    let kind = Kind::standard(1 << 20, 16);
    let start = kind.memory();
    let mut image = kind.open(&start, None);
    image.change_backing(Some(&reference("old", Some("raw"))), None).unwrap();
    image.close().unwrap();
    let to = reference("new", Some("qcow2"));
    let mut seen = std::collections::BTreeSet::new();
    for call in 1..40 {
        let storage = Arc::new(FaultStorage::new(MemoryStorage::clone(&start.image)));
        let mut image = open(&storage);
        storage.arm(Fault::nth(call, CallSet::CHANGES_AND_SYNCS));
        let done = image.change_backing(Some(&to), Some(&pin())).is_ok();
        storage.heal();
        let name = read_header(&*storage).unwrap().backing_name().unwrap().to_vec();
        assert!(name == b"old" || name == b"new");
        assert_eq!(image.write_at(0, &[1]).is_ok(), done, "given up after a failure");
        seen.insert((done, name));
        if done {
            break;
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}
