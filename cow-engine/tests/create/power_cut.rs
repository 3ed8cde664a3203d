//! Power cuts and failing hosts: until the last write there is nothing that looks like an image.

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{
    BackingReference, CreateOptions, DataFileReference, Preallocation, create,
    create_with_data_file,
};
use qcow2_format::{ClusterBits, MAGIC};
use testkit::{Arrives, CallSet, CrashPlan, CrashStorage, Fault, FaultStorage};

/// Preallocated, and with a header that fills more than one sector.
fn options() -> CreateOptions {
    let mut options = CreateOptions::new(1 << 20);
    options.cluster_bits = ClusterBits::new(14).unwrap();
    options.extended_l2 = true;
    options.preallocation = Preallocation::Metadata;
    options.backing = Some(BackingReference { name: "b".repeat(700), format: None });
    options
}

fn bytes(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; storage.len().unwrap() as usize];
    storage.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn after_a_power_cut_there_is_a_whole_image_or_none() {
    let old = MemoryStorage::new();
    create(&old, &CreateOptions::new(1 << 30)).unwrap();
    let old_bytes = bytes(&old);
    let storage = CrashStorage::on(old);
    create(&storage, &options()).unwrap();
    let whole = bytes(&storage);
    let log = storage.log();
    let (mut none, mut full, mut untouched) = (0, 0, 0);
    for epoch in log.epochs() {
        for state in epoch.states(&CrashPlan::default()) {
            let found = bytes(&epoch.materialise(&state));
            if !found.starts_with(&MAGIC.to_be_bytes()) {
                none += 1;
            } else if found == whole {
                full += 1;
            } else {
                // Before the first sync of the new image the old one may still be there.
                assert!(found == old_bytes, "half an image: {}", epoch.describe(&state));
                untouched += 1;
            }
        }
    }
    assert!(none > 10 && full > 0 && untouched > 0, "{none} {full} {untouched}");
}

#[test]
fn a_host_that_fails_leaves_no_image() {
    let mut options = options();
    options.backing = None;
    options.preallocation = Preallocation::Falloc;
    let ways: [fn(u64) -> Fault; 4] = [
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting(),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().arriving(Arrives::AllButSector),
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).arriving(Arrives::Everything),
    ];
    for (external, way) in [false, true].into_iter().flat_map(|one| ways.map(|way| (one, way))) {
        if external {
            options.data_file = Some(DataFileReference { name: "data".into(), raw: true });
        }
        let mut failing = 1;
        loop {
            let (image, data) = [(); 2].map(|()| FaultStorage::new(MemoryStorage::new())).into();
            image.arm(way(failing));
            let made = match external {
                true => create_with_data_file(&image, &data, &options),
                false => create(&image, &options),
            };
            let header = bytes(image.inner());
            if made.is_ok() {
                assert_eq!(image.fired(), 0);
                break;
            }
            // Only when the very last write or sync fails the header is there, and then all of it.
            let is_image = header.starts_with(&MAGIC.to_be_bytes());
            assert!(!is_image || header == bytes(&whole(&options)), "call {failing}");
            failing += 1;
        }
        assert!(failing > 5, "only {failing} calls");
    }
}

fn whole(options: &CreateOptions) -> MemoryStorage {
    let storage = MemoryStorage::new();
    match options.data_file {
        Some(_) => create_with_data_file(&storage, &MemoryStorage::new(), options),
        None => create(&storage, options),
    }
    .unwrap();
    storage
}
