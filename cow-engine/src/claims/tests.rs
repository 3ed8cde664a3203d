//! Claims of structures that no writable image has yet: bitmaps and key material.

use block_io::MemoryStorage;
use testkit::{Folder, Qemu};

use super::*;
use crate::open::read_header;

fn fixture(name: &str) -> MemoryStorage {
    let path = format!("{}/../fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    MemoryStorage::from(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))[..])
}

fn word(storage: &MemoryStorage, at: u64) -> u64 {
    let mut word = [0; 8];
    storage.read_at(at, &mut word).unwrap();
    u64::from_be_bytes(word)
}

/// The claims of an image; its L1 table and refcount blocks are left out.
fn claims(storage: &MemoryStorage) -> Result<MetadataMap> {
    claim_metadata(storage, &read_header(storage).unwrap(), &mut [], &[])
}

#[track_caller]
fn assert_owner(map: &MetadataMap, host: u64, owner: Option<Area>) {
    let found = match map.guard_data(HostOffset::new(host), 1) {
        Ok(()) => None,
        Err(Error::Overlap { owner, .. }) => Some(owner),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, owner, "{host:#x}");
}

/// Directory, first table and first cluster of bits.
fn places(storage: &MemoryStorage) -> [u64; 3] {
    let directory = read_header(storage).unwrap().bitmaps().unwrap().directory_offset().get();
    let table = word(storage, directory);
    let bits = word(storage, table);
    [directory, table, bits]
}

#[test]
fn bitmaps_are_claimed_while_somebody_vouches_for_them() {
    let storage = fixture("bitmap.qcow2");
    let [directory, table, bits] = places(&storage);
    assert!(bits > 1, "the first bitmap has bits");
    let map = claims(&storage).unwrap();
    assert_owner(&map, directory, Some(Area::BitmapDirectory));
    assert_owner(&map, table, Some(Area::BitmapTable));
    assert_owner(&map, bits + 4095, Some(Area::BitmapData));
    storage.write_at(88, &[0; 8]).unwrap();
    let map = claims(&storage).unwrap();
    for place in [directory, table, bits] {
        assert_owner(&map, place, None);
    }
}

#[test]
fn bitmaps_on_other_structures() {
    let storage = fixture("bitmap.qcow2");
    let [directory, table, bits] = places(&storage);
    let refcount_table = word(&storage, 48);
    let text = |at, target: u64| {
        let old = word(&storage, at);
        storage.write_at(at, &target.to_be_bytes()).unwrap();
        let text = claims(&storage).unwrap_err().to_string();
        storage.write_at(at, &old.to_be_bytes()).unwrap();
        text
    };
    let texts = [
        text(directory, refcount_table),
        text(directory, directory),
        text(directory, 1 << 40),
        text(table, 0x4000_0000),
        text(table, directory),
        text(table, bits | 1),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    a bitmap table at host offset 0x1000 overlaps with the refcount table
    a bitmap table at host offset 0xe000 overlaps with the bitmap directory
    bitmap directory: entry 0 is 0x10000000000, allowed is an offset inside the file
    bitmap table: entry 0 is 0x40000000, allowed is an offset inside the file
    the data of a bitmap at host offset 0xe000 overlaps with the bitmap directory
    bitmap table: entry at offset 0xc000 is 0xb001, allowed is an offset or the all-ones bit, not both
    ");
    assert!(claims(&storage).is_ok());
}

#[test]
fn key_material_is_claimed() {
    let folder = Folder::new();
    let path = folder.path("luks.qcow2");
    let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
    let words = ["create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=word", "-o"];
    Qemu::img(words.into_iter().chain([options, path.to_str().unwrap(), "1M"])).success();
    let storage = MemoryStorage::from(&std::fs::read(&path).unwrap()[..]);
    let luks = read_header(&storage).unwrap().luks().unwrap();
    let map = claims(&storage).unwrap();
    assert_owner(&map, luks.offset.get(), Some(Area::EncryptionHeader));
    assert_owner(&map, luks.offset.get() + luks.bytes - 1, Some(Area::EncryptionHeader));
    // An area of more clusters than a file can have.
    let mut header = vec![0; 512];
    storage.read_at(0, &mut header).unwrap();
    let extension = header.windows(4).position(|word| word == [0x05, 0x37, 0xbe, 0x77]).unwrap();
    storage.write_at(extension as u64 + 16, &u64::MAX.to_be_bytes()).unwrap();
    insta::assert_snapshot!(claims(&storage).unwrap_err(), @"the encryption header is one piece of metadata too many, writing allows 8388608, open the image read-only");
}

#[test]
fn terabytes_of_holes_cost_no_time() {
    // A snapshot whose L1 table is as large as the format allows, and almost all of it a hole.
    let storage = fixture("internal-snapshot.qcow2");
    let (entry, far) = (word(&storage, 64), 1_u64 << 40);
    storage.set_len((1 << 40) + (32 << 20)).unwrap();
    let table = word(&storage, word(&storage, entry));
    storage.write_at(entry, &far.to_be_bytes()).unwrap();
    storage.write_at(entry + 8, &4_194_304_u32.to_be_bytes()).unwrap();
    storage.write_at(far + 0x100_0000, &table.to_be_bytes()).unwrap();
    let map = claims(&storage).unwrap();
    assert_owner(&map, far + (32 << 20) - 1, Some(Area::SnapshotL1Table));
    assert_owner(&map, table & 0x00ff_ffff_ffff_fe00, Some(Area::SnapshotL2Table));
}
