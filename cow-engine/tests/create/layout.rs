//! The plan: areas that follow each other without a gap, and that are really there.

use block_io::{MemoryStorage, Storage, StorageExt};
use cow_engine::{Area, CreateOptions, CreatePlan, PlannedArea, Preallocation};
use qcow2_format::{ClusterBits, L1Entry, RefcountOrder};
use testkit::Rng;

use crate::choice::{any_options, any_preallocated};

/// Asserts that the areas are the whole file, one after the other.
#[track_caller]
fn assert_gapless(plan: &CreatePlan) {
    let mut end = 0;
    for PlannedArea { offset, bytes, count, .. } in plan.areas() {
        assert!(offset.get() == end && bytes > 0 && count > 0, "{plan}");
        end += bytes;
    }
    assert_eq!(end, plan.file_bytes(), "{plan}");
}

#[test]
fn areas_are_the_whole_file() {
    let mut rng = Rng::announced(0xa4ea);
    for round in 0..100 {
        let options =
            if round % 2 == 0 { any_options(&mut rng) } else { any_preallocated(&mut rng) };
        let plan = CreatePlan::new(&options).unwrap();
        assert_gapless(&plan);
        let storage = MemoryStorage::new();
        if options.data_file.is_some() {
            let data = MemoryStorage::new();
            cow_engine::create_with_data_file(&storage, &data, &options).unwrap();
            assert_eq!(data.len().unwrap(), options.virtual_size);
        } else {
            cow_engine::create(&storage, &options).unwrap();
        }
        assert_eq!(storage.len().unwrap(), plan.file_bytes(), "{plan}");
        let mut header = vec![0; 1 << options.cluster_bits.get()];
        storage.read_zero_filled(0, &mut header).unwrap();
        assert_eq!(header, plan.header().encode());
    }
}

#[test]
fn a_disk_of_many_terabytes_is_laid_out_at_once() {
    let mut options = CreateOptions::new(1 << 50);
    options.preallocation = Preallocation::Metadata;
    let plan = CreatePlan::new(&options).unwrap();
    assert_gapless(&plan);
    insta::assert_snapshot!(plan);
    options.virtual_size = 1 << 30;
    options.preallocation = Preallocation::Off;
    insta::assert_snapshot!(CreatePlan::new(&options).unwrap());
    options.virtual_size = 0;
    insta::assert_snapshot!(CreatePlan::new(&options).unwrap());
    options.virtual_size = 1 << 30;
    options.cluster_bits = ClusterBits::new(9).unwrap();
    options.refcount_order = RefcountOrder::new(5).unwrap();
    insta::assert_snapshot!(CreatePlan::new(&options).unwrap());
}

/// Every count, entry and pointer of a preallocated image, read back one by one.
#[test]
fn tables_say_what_the_plan_says() {
    let mut options = CreateOptions::new(3 << 20);
    options.cluster_bits = ClusterBits::new(9).unwrap();
    options.refcount_order = RefcountOrder::new(2).unwrap();
    options.preallocation = Preallocation::Metadata;
    let plan = CreatePlan::new(&options).unwrap();
    let storage = MemoryStorage::new();
    plan.write(&storage).unwrap();
    let word = |at: u64| {
        let mut word = [0; 8];
        storage.read_zero_filled(at, &mut word).unwrap();
        u64::from_be_bytes(word)
    };
    let area = |wanted: Area| plan.areas().into_iter().find(|area| area.area == wanted).unwrap();
    let (l1, l2, data) = (area(Area::L1Table), area(Area::L2Table), area(Area::Data));
    let table = area(Area::RefcountTable).offset.get();
    for index in 0..3 << 11 {
        let l1_entry = word(l1.offset.get() + index / 64 * 8);
        assert_eq!(
            L1Entry::from_bits(l1_entry).table_offset().unwrap().get(),
            l2.offset.get() + index / 64 * 512
        );
        assert_eq!(word(l2.offset.get() + index * 8), 1 << 63 | (data.offset.get() + index * 512));
    }
    let used = plan.file_bytes() / 512;
    for cluster in 0..used + 100 {
        let block = word(table + cluster / 1024 * 8);
        let mut byte = [0];
        storage.read_zero_filled(block + cluster % 1024 / 2, &mut byte).unwrap();
        let count = byte[0] >> (cluster % 2 * 4) & 15;
        assert_eq!(count, u8::from(cluster < used && block != 0), "cluster {cluster}");
    }
}
