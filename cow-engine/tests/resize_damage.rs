//! Damage that only a resize finds: the disk keeps its size, and the image is marked.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{Class, CreateOptions, Error, Image, OpenOptions, ResizeOptions, create};

const L2_TABLE: u64 = 0x4_0000;

#[test]
fn an_entry_without_meaning_in_what_is_cut_off_marks_the_image() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create(&*storage, &CreateOptions::new(1 << 20)).unwrap();
    let image = Image::open(Arc::clone(&storage), OpenOptions::new()).unwrap();
    image.write_at(900 << 10, &[7; 4096]).unwrap();
    image.close().unwrap();
    // The cluster of the write, now at an offset that is no cluster boundary.
    storage.write_at(L2_TABLE + 14 * 8 + 6, &[2, 0]).unwrap();

    let mut image = Image::open(Arc::clone(&storage), OpenOptions::new()).unwrap();
    let error = image.resize(1 << 19, ResizeOptions::new().shrink(true)).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt, "{error}");
    assert_eq!(image.virtual_size(), 1 << 20);
    let refused = image.write_at(0, &[1]).unwrap_err();
    assert!(matches!(refused, Error::Poisoned(_)), "{refused}");
    drop(image);
    let mut word = [0; 8];
    storage.read_exact_at(72, &mut word).unwrap();
    assert_eq!(u64::from_be_bytes(word), 2, "marked corrupt");
    let reopened = Image::open(storage, OpenOptions::new());
    assert!(matches!(reopened, Err(Error::MarkedCorrupt)));
}
