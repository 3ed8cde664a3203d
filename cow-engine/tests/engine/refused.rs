//! Refusals: what is not supported is refused by its name, and the file stays as it was, byte for
//! byte.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Class, Error, Image, OpenOptions};

use crate::images::{bytes, memory, open, poke, read, word};

/// A committed image.
fn fixture(name: &str) -> Arc<MemoryStorage> {
    let path = format!("{}/../fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Arc::new(MemoryStorage::from(&bytes[..]))
}

fn try_open(storage: &Arc<MemoryStorage>, read_only: bool) -> Result<Image, Error> {
    let storage: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(storage);
    Image::open(storage, OpenOptions::new().read_only(read_only))
}

/// Opening fails in this way, with this text, and changes nothing. The text.
#[track_caller]
fn refused(storage: &Arc<MemoryStorage>, read_only: bool, class: Class) -> String {
    let before = bytes(&**storage);
    let error = try_open(storage, read_only).expect_err("to be refused");
    assert_eq!(error.class(), class, "{error}");
    assert!(bytes(&**storage) == before, "CE-6: the file has changed");
    error.to_string()
}

/// Writing is refused, reading is not, and neither changes anything.
#[track_caller]
fn only_readable(storage: &Arc<MemoryStorage>, class: Class) -> String {
    let text = refused(storage, false, class);
    let before = bytes(&**storage);
    let image = try_open(storage, true).unwrap();
    assert!(image.is_read_only());
    read(&image, 0, image.virtual_size() as usize);
    assert!(matches!(image.write_at(0, &[1]), Err(Error::ReadOnly)));
    assert!(matches!(image.flush(), Err(Error::ReadOnly)));
    image.close().unwrap();
    assert!(bytes(&**storage) == before, "reading has changed the file");
    text
}

#[test]
fn external_data_file_that_nobody_gave() {
    for read_only in [false, true] {
        let text = refused(&fixture("data-file.qcow2"), read_only, Class::Caller);
        assert!(text.contains("data-file.raw"), "{text}");
    }
}

#[test]
fn encrypted_images_never_open_as_plain() {
    for read_only in [false, true] {
        let text = refused(&fixture("aes.qcow2"), read_only, Class::Unsupported);
        assert_eq!(text, "encryption is not supported yet");
    }
}

#[test]
fn trap_57_bitmaps_on_write() {
    let text = only_readable(&fixture("bitmap.qcow2"), Class::Unsupported);
    insta::assert_snapshot!(text, @"persistent bitmaps are not supported for writing yet, open the image read-only");
}

#[test]
fn trap_61_bitmaps_that_another_writer_has_outdated() {
    let storage = fixture("bitmap.qcow2");
    let check = |storage: &MemoryStorage| {
        let folder = testkit::Folder::new();
        let path = folder.write("image.qcow2", &bytes(storage));
        testkit::Qemu::img(["check", "-f", "qcow2", path.to_str().unwrap()])
    };
    assert_eq!(check(&storage).code, Some(0));
    // What any writer does that knows nothing of bitmaps.
    poke(&*storage, 88, |word| word & !1);
    let leaks = check(&storage);
    assert_eq!(leaks.code, Some(3), "{leaks:?}");
    assert!(leaks.stdout.contains("\n4 leaked clusters"), "{leaks:?}");
    let before = bytes(&*storage);
    let image = open(&storage);
    image.write_at(0, &[9; 512]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, 88), 0, "nobody vouches for them again");
    assert!(bytes(&*storage)[..4096] == before[..4096], "the extension stays");
    let after = check(&storage);
    assert_eq!(after.code, Some(3), "{after:?}");
    assert!(after.stdout.contains("\n4 leaked clusters"), "not more: {after:?}");
    assert!(after.stderr.contains("a program lacking bitmap support"), "{}", after.stderr);
}

#[test]
fn trap_9_unknown_extensions_survive() {
    let storage = memory(1 << 20, 16);
    let mut header = bytes(&*storage)[..0x1_0000].to_vec();
    // In place of the end marker: an empty extension, one of five bytes, the end.
    let end = 112 + 8 + word(&*storage, 112) as u32 as usize;
    assert_eq!(header[end..end + 8], [0; 8], "the feature names are the only extension");
    header[end..end + 4].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    header[end + 8..end + 16].copy_from_slice(&[0x12, 0x34, 0x56, 0x79, 0, 0, 0, 5]);
    header[end + 16..end + 21].copy_from_slice(b"kept!");
    storage.write_at(0, &header).unwrap();
    poke(&*storage, 88, |_| 1 << 9);
    let image = open(&storage);
    assert_eq!(image.header().extensions().count(), 3);
    image.write_at(0, &[9; 512]).unwrap();
    image.close().unwrap();
    assert!(bytes(&*storage)[..0x1_0000] == header, "only the autoclear bit, set after it, goes");
}

#[test]
fn trap_83_dirty_images_on_write() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 72, |word| word | 1);
    let text = only_readable(&storage, Class::Corrupt);
    insta::assert_snapshot!(text, @"header: incompatible_features bit 0 says the image was not closed cleanly, open it read-only or repair it with check -r all");
}

#[test]
fn trap_87_corrupt_images_on_write() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 72, |word| word | 2);
    let text = only_readable(&storage, Class::Corrupt);
    insta::assert_snapshot!(text, @"header: incompatible_features bit 1 says the image is corrupt, open it read-only or repair it with check -r all");
}

#[test]
fn trap_7_unknown_incompatible_bits() {
    for bit in [5, 17, 63] {
        let storage = memory(1 << 20, 16);
        poke(&*storage, 72, |word| word | 1 << bit);
        for read_only in [false, true] {
            let text = refused(&storage, read_only, Class::Corrupt);
            assert!(text.contains(&format!("bit {bit}")), "{text}");
        }
    }
}

#[test]
fn trap_7_unknown_compatible_bits_are_kept() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 80, |word| word | 1 << 40);
    let image = open(&storage);
    image.write_at(0, &[1]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*storage, 80), 1 << 40);
}

#[test]
fn trap_6_unknown_autoclear_bits_go_only_when_a_writer_has_opened() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 88, |_| 1 << 9 | 1);
    drop(try_open(&storage, true).unwrap());
    assert_eq!(word(&*storage, 88), 1 << 9 | 1, "kept by readers");
    // A table that makes opening fail: an L1 entry into nowhere.
    poke(&*storage, 0x3_0000, |_| 0x8000_0000_0004_0000);
    refused(&storage, false, Class::Corrupt);
    assert_eq!(word(&*storage, 88), 1 << 9 | 1, "kept by writers that were refused");
    poke(&*storage, 0x3_0000, |_| 0);
    drop(open(&storage));
    assert_eq!(word(&*storage, 88), 0);
}

#[test]
fn raw_external_data_without_the_file() {
    let storage = memory(1 << 20, 16);
    poke(&*storage, 88, |_| 2);
    for read_only in [false, true] {
        refused(&storage, read_only, Class::Unsupported);
    }
}

#[test]
fn storage_that_cannot_be_written() {
    let folder = testkit::Folder::new();
    let storage = memory(1 << 20, 16);
    let path = folder.write("image.qcow2", &bytes(&*storage));
    let file = block_io::OpenOptions::new().open(&path).unwrap();
    let file: Arc<dyn Storage> = Arc::new(file);
    let refused = Image::open(Arc::clone(&file), OpenOptions::new());
    assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
    Image::open(file, OpenOptions::new().read_only(true)).unwrap();
}

#[test]
fn requests_outside_the_disk() {
    let storage = memory(1 << 20, 16);
    let image = open(&storage);
    let before = bytes(&*storage);
    for (offset, len) in [(1 << 20, 1), ((1 << 20) - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 7)] {
        let mut buf = vec![0; len];
        let out = |result: Result<(), Error>| {
            assert!(matches!(result, Err(Error::OutOfRange { .. })), "{result:?}");
        };
        out(image.read_at(offset, &mut buf));
        out(image.write_at(offset, &buf));
        out(image.write_zeroes_at(offset, len as u64, cow_engine::ZeroMode::Keep));
        out(image.plan_read(offset, len as u64).map(drop));
        out(image.begin_write(offset, len as u64).map(drop));
        out(image.explain(offset.max(1 << 20)).map(drop));
    }
    image.close().unwrap();
    assert!(bytes(&*storage) == before);
}
