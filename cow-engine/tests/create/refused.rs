//! Options that do not go together are refused before anything is touched.

use block_io::{MemoryStorage, Storage};
use cow_engine::{
    BackingReference, Class, CreateOptions, DataFileReference, Preallocation, create,
    create_with_data_file,
};
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};

type Change = fn(&mut CreateOptions);

const IMPOSSIBLE: [(Change, &str); 12] = [
    (|options| options.virtual_size = 1000, "multiple of 512"),
    (|options| options.virtual_size = 1 << 62, "larger cluster size"),
    (
        |options| {
            options.extended_l2 = true;
            options.cluster_bits = ClusterBits::new(13).unwrap();
        },
        "14..=21 with extended L2 entries",
    ),
    (|options| set_v2(options, |options| options.extended_l2 = true), "version at offset 0x4 is 2"),
    (
        |options| set_v2(options, |options| options.lazy_refcounts = true),
        "version at offset 0x4 is 2",
    ),
    (
        |options| set_v2(options, |options| options.data_file = data_file(false)),
        "version at offset 0x4 is 2",
    ),
    (
        |options| set_v2(options, |options| options.compression_type = CompressionType::Zstd),
        "version at offset 0x4 is 2",
    ),
    (
        |options| {
            set_v2(options, |options| options.refcount_order = RefcountOrder::new(3).unwrap());
        },
        "version at offset 0x4 is 2",
    ),
    (
        |options| {
            options.backing = backing();
            options.preallocation = Preallocation::Metadata;
        },
        "preallocation is metadata, allowed is off with a backing file",
    ),
    (
        |options| {
            options.backing = backing();
            options.data_file = data_file(true);
        },
        "data_file_raw is on, allowed is off with a backing file",
    ),
    (
        |options| {
            options.cluster_bits = ClusterBits::new(9).unwrap();
            options.refcount_order = RefcountOrder::new(6).unwrap();
            options.virtual_size = 128 << 30;
            options.preallocation = Preallocation::Metadata;
        },
        "refcount table",
    ),
    (
        |options| options.backing = Some(BackingReference { name: "b".repeat(1024), format: None }),
        "backing_file_size",
    ),
];

fn set_v2(options: &mut CreateOptions, change: Change) {
    options.version = Version::V2;
    change(options);
}

fn backing() -> Option<BackingReference> {
    Some(BackingReference { name: "base".into(), format: Some("raw".into()) })
}

fn data_file(raw: bool) -> Option<DataFileReference> {
    Some(DataFileReference { name: "data".into(), raw })
}

fn occupied() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.write_at(0, b"somebody's data").unwrap();
    storage
}

#[track_caller]
fn assert_untouched(storage: &MemoryStorage) {
    let mut bytes = [0; 16];
    assert_eq!(storage.read_at(0, &mut bytes).unwrap(), 15);
    assert_eq!(&bytes[..15], b"somebody's data");
}

#[test]
fn impossible_options_touch_nothing() {
    for (change, words) in IMPOSSIBLE {
        let mut options = CreateOptions::new(1 << 20);
        change(&mut options);
        let (storage, data) = (occupied(), occupied());
        let error = match options.data_file {
            Some(_) => create_with_data_file(&storage, &data, &options).unwrap_err(),
            None => create(&storage, &options).unwrap_err(),
        };
        assert!(error.to_string().contains(words), "{error}");
        assert_untouched(&storage);
        assert_untouched(&data);
    }
}

#[test]
fn a_data_file_needs_a_name_and_a_name_needs_a_data_file() {
    let mut options = CreateOptions::new(1 << 20);
    let (storage, data) = (occupied(), occupied());
    let error = create_with_data_file(&storage, &data, &options).unwrap_err();
    assert_eq!(error.to_string(), "option data_file is nothing, allowed is a name for the header");
    options.data_file = data_file(false);
    let error = create(&storage, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "option data_file is data, allowed is nothing without a storage for it"
    );
    assert_eq!(error.class(), Class::Caller);
    assert_untouched(&storage);
    assert_untouched(&data);
}
