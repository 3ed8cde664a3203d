//! Power cuts while the backing file changes: the old words or the new ones, and the guest's bytes.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Backing, BackingReference, BasePin, Image, OpenOptions, read_header};
use qcow2_format::Version;
use testkit::{Folder, Pattern, Qemu};

use crate::change::{pin, reference};
use crate::images::{self, bytes, read_all};
use crate::kinds::Media;
use crate::power::{Left, Power, complaint, none_lost};
use crate::test_backing::TestBacking;

const SIZE: u64 = 256 << 10;

type To = Option<(BackingReference, Option<BasePin>)>;

fn to(len: usize, letter: &str, format: &str, pinned: bool) -> To {
    Some((reference(&letter.repeat(len), Some(format)), pinned.then(pin)))
}

/// What a header says about its backing file.
type Said = (Option<Vec<u8>>, Option<Vec<u8>>, Option<BasePin>);

fn said(storage: &dyn Storage) -> Said {
    let header = read_header(storage).unwrap();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    (own(header.backing_name()), own(header.backing_format()), header.base_pin())
}

fn below() -> Option<Arc<dyn Backing>> {
    Some(Arc::new(TestBacking::new(Pattern::new(5).bytes(0, SIZE as usize))))
}

/// Changes the backing file several times in a row and judges every state that a power cut may leave.
fn survive(start: MemoryStorage, changes: &[To]) -> usize {
    let media = Media { image: Arc::new(start), data: None };
    let power = Power::on(&media, none_lost);
    let mut image = images::open_over(&power.media().image, below());
    let own = Pattern::new(8).bytes(0, 9000);
    image.write_at(30_000, &own).unwrap();
    image.flush().unwrap();
    let guest = read_all(&image);
    let written = power.position();
    let mut deeds = vec![(written, said(&*power.media().image))];
    for change in changes {
        let (to, pin) = change.clone().unzip();
        let plan = image.plan_backing_change(to.as_ref(), pin.flatten().as_ref()).unwrap();
        assert!(plan.survives_power_cuts(), "{plan}");
        image.change_backing(to.as_ref(), pin.flatten().as_ref()).unwrap();
        deeds.push((power.position(), said(&*power.media().image)));
    }
    image.close().unwrap();
    let folder = Folder::new();
    let mut number = 0;
    let (count, found) = power.log().check(400, |left| {
        if left.position < written {
            return Ok(());
        }
        number += 1;
        if number % 25 == 0 {
            ask_qemu(&folder, left);
        }
        judge(left, &deeds, &guest)
    });
    assert_eq!(found, None);
    count
}

fn judge(left: &Left, deeds: &[(usize, Said)], guest: &[u8]) -> Result<(), String> {
    let found = said(&*left.media.image);
    let before = deeds.iter().rfind(|(end, _)| *end <= left.position).map(|(_, said)| said);
    let after = deeds.iter().find(|(end, _)| *end > left.position).map(|(_, said)| said);
    if Some(&found) != before && Some(&found) != after {
        return Err(format!("neither old nor new: {found:?}"));
    }
    complaint(&testkit::census::take(&bytes(&*left.media.image))).map_or(Ok(()), Err)?;
    let image: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&left.media.image);
    let image = Image::open(image, OpenOptions::new().backing(below()));
    let image = image.map_err(|error| error.to_string())?;
    if read_all(&image) == guest { Ok(()) } else { Err("other guest bytes".to_owned()) }
}

/// The real tool can read the header, whatever the backing file is.
fn ask_qemu(folder: &Folder, left: &Left) {
    let path = folder.write("image.qcow2", &bytes(&*left.media.image));
    let info = Qemu::info_json("qcow2", &path);
    let name = said(&*left.media.image).0.map(|name| String::from_utf8(name).unwrap());
    assert_eq!(info.get("backing-filename").and_then(|name| name.as_str()), name.as_deref());
}

fn new(cluster_bits: u32, version: Version) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let options = images::options(SIZE, cluster_bits, version);
    cow_engine::create(&storage, &options).unwrap();
    storage
}

/// From none, to short, long, short and other pins, and to none.
fn there_and_back(long: usize) -> Vec<To> {
    vec![
        to(9, "a", "raw", false),
        to(long, "b", "qcow2", true),
        to(12, "c", "qcow2", true),
        to(long, "d", "raw", true),
        to(long, "e", "raw", false),
        to(12, "f", "raw", true),
        None,
        to(long, "g", "qcow2", true),
        None,
    ]
}

#[test]
fn clusters_of_64_kib_with_names_of_features() {
    let count = survive(new(16, Version::V3), &there_and_back(1023));
    assert!(count > 60, "{count}");
}

#[test]
fn clusters_of_512_bytes_change_in_one_write() {
    let count = survive(new(9, Version::V3), &there_and_back(200));
    assert!(count > 20, "{count}");
}

#[test]
fn clusters_of_4_kib_without_names_of_features() {
    survive(new(12, Version::V3), &there_and_back(1000));
}

#[test]
fn small_clusters_have_room_for_two_names_of_some_length() {
    survive(new(11, Version::V3), &there_and_back(500));
    survive(new(10, Version::V3), &there_and_back(250));
}

#[test]
fn version_2() {
    survive(new(16, Version::V2), &there_and_back(1023));
    survive(new(9, Version::V2), &there_and_back(200));
}

#[test]
fn images_of_the_real_tool_with_an_extension_that_nobody_knows() {
    for options in ["compat=1.1", "compat=0.10", "compat=1.1,extended_l2=on", "cluster_size=4k"] {
        let folder = Folder::new();
        folder.write("base.raw", &vec![0; SIZE as usize]);
        let path = folder.path("image.qcow2");
        let path = path.to_str().unwrap();
        let base = ["-b", "base.raw", "-F", "raw"];
        let create = ["create", "-q", "-f", "qcow2", "-o", options, path];
        Qemu::img(create.into_iter().chain(base)).success();
        let storage = MemoryStorage::new();
        storage.write_at(0, &std::fs::read(path).unwrap()).unwrap();
        add_unknown_extension(&storage);
        survive(storage, &there_and_back(900));
    }
}

/// In front of all others, as a later version of another program may put it.
fn add_unknown_extension(storage: &MemoryStorage) {
    let header = read_header(storage).unwrap();
    let (at, name) = (header.header_length() as usize, header.backing_name().unwrap().to_vec());
    let mut cluster = header.encode();
    let extension = [&[0x55, 0x4e, 0x4b, 0x21, 0, 0, 0, 5][..], b"kept!\0\0\0"].concat();
    cluster.truncate(cluster.len() - extension.len());
    cluster.splice(at..at, extension.iter().copied());
    let place = (images::word(storage, 8) + extension.len() as u64).to_be_bytes();
    cluster[8..16].copy_from_slice(&place);
    storage.write_at(0, &cluster).unwrap();
    assert_eq!(read_header(storage).unwrap().backing_name(), Some(&name[..]));
}
