//! Images for tests: made, opened, poked, and shown to the real tools.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{Backing, CreateOptions, Image, OpenOptions};
use qcow2_format::{ClusterBits, Version};
use testkit::{Folder, Qemu};

/// Where the first tables of a new image lie, in clusters, when each of them fits into one.
pub(crate) const REFCOUNT_BLOCK: u64 = 2;
pub(crate) const L1_TABLE: u64 = 3;

/// What a new image should be like.
pub(crate) fn options(size: u64, cluster_bits: u32, version: Version) -> CreateOptions {
    let mut options = CreateOptions::new(size);
    options.cluster_bits = ClusterBits::new(cluster_bits).unwrap();
    options.version = version;
    options
}

/// A new version 3 image in memory.
pub(crate) fn memory(size: u64, cluster_bits: u32) -> Arc<MemoryStorage> {
    let storage = Arc::new(MemoryStorage::new());
    cow_engine::create(&*storage, &options(size, cluster_bits, Version::V3)).unwrap();
    storage
}

/// Opens for writing, without anything below.
pub(crate) fn open<S: Storage + 'static>(storage: &Arc<S>) -> Image {
    open_over(storage, None)
}

/// Opens for writing over a layer.
pub(crate) fn open_over<S: Storage + 'static>(
    storage: &Arc<S>,
    backing: Option<Arc<dyn Backing>>,
) -> Image {
    let storage: Arc<dyn Storage> = Arc::<S>::clone(storage);
    Image::open(storage, OpenOptions::new().backing(backing)).unwrap()
}

/// Opens without the right to change anything.
pub(crate) fn open_read_only<S: Storage + 'static>(
    storage: &Arc<S>,
    backing: Option<Arc<dyn Backing>>,
) -> Image {
    let storage: Arc<dyn Storage> = Arc::<S>::clone(storage);
    Image::open(storage, OpenOptions::new().read_only(true).backing(backing)).unwrap()
}

/// Guest bytes.
pub(crate) fn read(image: &Image, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xaa; len];
    image.read_at(offset, &mut bytes).unwrap();
    bytes
}

/// All guest bytes.
pub(crate) fn read_all(image: &Image) -> Vec<u8> {
    read(image, 0, image.virtual_size() as usize)
}

/// All bytes of the image file.
pub(crate) fn bytes(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; storage.len().unwrap() as usize];
    storage.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// A big-endian word of the image file.
pub(crate) fn word(storage: &dyn Storage, at: u64) -> u64 {
    let mut word = [0; 8];
    storage.read_zero_filled(at, &mut word).unwrap();
    u64::from_be_bytes(word)
}

/// Changes a big-endian word of the image file behind everybody's back.
pub(crate) fn poke(storage: &dyn Storage, at: u64, change: impl FnOnce(u64) -> u64) {
    let word = change(word(storage, at));
    storage.write_at(at, &word.to_be_bytes()).unwrap();
}

/// Where the L2 entry of a guest offset lies, by the tables on disk.
pub(crate) fn l2_entry_at(storage: &dyn Storage, guest: u64) -> u64 {
    let cluster_bits = word(storage, 20) >> 32;
    let cluster = guest >> cluster_bits;
    let entries = 1 << (cluster_bits - 3);
    let l1 = word(storage, 40);
    let table = word(storage, l1 + cluster / entries * 8) & 0x00ff_ffff_ffff_fe00;
    assert!(table != 0, "no L2 table for guest offset {guest:#x}");
    table + cluster % entries * 8
}

/// The real tool finds nothing wrong, not even a leak.
pub(crate) fn check_clean(storage: &dyn Storage) {
    let folder = Folder::new();
    Qemu::check(&folder.write("image.qcow2", &bytes(storage)));
}

/// The real tool sees these guest bytes; the image has nothing below.
pub(crate) fn check_content(storage: &dyn Storage, expected: &[u8]) {
    let folder = Folder::new();
    let image = folder.write("image.qcow2", &bytes(storage));
    let raw = folder.write("expected.raw", expected);
    Qemu::assert_same(("raw", &raw), ("qcow2", &image));
}

/// The file is as it was, but that it says now that it is damaged, if its version can.
#[track_caller]
pub(crate) fn assert_only_marked(storage: &dyn Storage, before: &[u8], what: &str) {
    let mut expected = before.to_vec();
    if expected[7] == 3 {
        // Bit 1 of the incompatible features at bytes 72 to 79.
        expected[79] |= 2;
    }
    let found = bytes(storage);
    if found == expected {
        return;
    }
    assert_eq!(found.len(), expected.len(), "{what}: the file has another length");
    let change = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(change, None, "{what}: the first byte that has changed");
}
