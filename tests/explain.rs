//! `qimg::explain`: every byte of a new image is explained once, by the header and the plan alike;
//! and what does not belong is told.

#![expect(clippy::unwrap_used, reason = "a panic with a helpful text is the answer of a test")]

use block_io::{MemoryStorage, Storage, StorageExt};
use qimg::engine::{Area, CreateOptions, CreatePlan, DataFileReference, Preallocation};
use qimg::engine::{BackingReference, create, create_with_data_file};
use qimg::explain::{AreaKind, FileExplanation, explain_file};
use qimg::format::{ClusterBits, CompressionType, RefcountOrder, Version};
use qimg::io as block_io;
use testkit::{Folder, Qemu, Rng};

fn any_options(rng: &mut Rng) -> CreateOptions {
    // Large clusters take time in memory and look like the others.
    let bits = if rng.one_in(10) { 21 } else { rng.within(9..18) as u32 };
    let clusters = if bits > 15 { 30 } else { 1500 };
    let mut options = CreateOptions::new(rng.below(clusters << bits) / 512 * 512);
    options.cluster_bits = ClusterBits::new(bits).unwrap();
    let modes = [Preallocation::Off, Preallocation::Metadata];
    if rng.one_in(5) {
        options.version = Version::V2;
    } else {
        options.refcount_order = RefcountOrder::new(rng.below(7) as u32).unwrap();
        options.lazy_refcounts = rng.one_in(2);
        options.extended_l2 = bits >= 14 && rng.one_in(2);
        if rng.one_in(2) {
            options.compression_type = CompressionType::Zstd;
        }
        if rng.one_in(3) {
            let name = "d".repeat(rng.within(1..60) as usize);
            options.data_file = Some(DataFileReference { name, raw: rng.one_in(2) });
        }
    }
    options.preallocation = *rng.pick(&modes);
    let is_raw = options.data_file.as_ref().is_some_and(|file| file.raw);
    let may_have_backing = options.extended_l2 || options.preallocation == Preallocation::Off;
    if may_have_backing && !is_raw && rng.one_in(2) {
        let name = "b".repeat(rng.within(1..100) as usize);
        let format = rng.pick(&[None, Some("raw"), Some("qcow2")]).map(str::to_owned);
        options.backing = Some(BackingReference { name, format });
    }
    options
}

fn make(options: &CreateOptions) -> MemoryStorage {
    let storage = MemoryStorage::new();
    match options.data_file {
        Some(_) => create_with_data_file(&storage, &MemoryStorage::new(), options),
        None => create(&storage, options),
    }
    .unwrap();
    storage
}

/// Asserts that fields and areas follow each other without gap or overlap.
#[track_caller]
fn assert_gapless(found: &FileExplanation) {
    let mut end = 0;
    for field in &found.fields {
        assert!(field.range.start == end && !field.range.is_empty(), "{field:?} at {end}");
        end = field.range.end;
    }
    assert_eq!(end, found.header.len() as u64);
    let mut end = 0;
    for area in &found.areas {
        assert!(area.range.start == end && !area.range.is_empty(), "{area:?} at {end}");
        end = area.range.end;
    }
    assert!(found.is_complete && end == found.file_bytes, "{end:#x}");
}

#[test]
fn every_byte_of_a_new_image_is_explained() {
    let mut rng = Rng::announced(0xe1a1);
    for _ in 0..100 {
        let options = any_options(&mut rng);
        let plan = CreatePlan::new(&options).unwrap();
        let found = explain_file(&make(&options)).unwrap();
        assert_gapless(&found);
        let areas: Vec<_> = found
            .areas
            .iter()
            .map(|area| (area.kind, area.range.start, area.range.end, area.count))
            .collect();
        let expected: Vec<_> = plan
            .areas()
            .iter()
            .map(|area| {
                let start = area.offset.get();
                (AreaKind::Structure(area.area), start, start + area.bytes, area.count)
            })
            .collect();
        assert_eq!(areas, expected, "{options:?}");
        // What is not a field is zeros, and only at the end of the cluster.
        let odd: Vec<_> = found.fields.iter().filter(|field| is_odd(&field.name)).collect();
        assert!(odd.len() <= 1, "{odd:?}");
        assert!(odd.iter().all(|field| field.range.end == found.header.len() as u64), "{odd:?}");
        let says = |name: &str| {
            found.fields.iter().find(|field| field.name == name).map(|field| &*field.value)
        };
        assert_eq!(says("size").unwrap(), options.virtual_size.to_string());
        assert_eq!(
            says("backing file name"),
            options.backing.as_ref().map(|backing| &*backing.name)
        );
        assert_eq!(found.data_file, options.data_file.map(|file| file.name));
        assert_eq!(found.fault, None);
    }
}

fn is_odd(name: &str) -> bool {
    matches!(name, "unused" | "unknown" | "unknown fields")
}

#[test]
fn what_does_not_belong_is_told() {
    let options = CreateOptions::new(1 << 30);
    let kinds = |storage: &MemoryStorage| -> Vec<AreaKind> {
        let found = explain_file(storage).unwrap();
        assert_gapless(&found);
        found.areas.iter().map(|area| area.kind).collect()
    };
    // A cluster that nobody has.
    let storage = make(&options);
    storage.set_len(5 << 16).unwrap();
    assert_eq!(kinds(&storage).last(), Some(&AreaKind::Unreached));
    // An L2 table on the refcount block, named twice.
    let storage = make(&options);
    let entry = 1_u64 << 63 | 2 << 16;
    storage.write_at(3 << 16, &[entry, entry].map(u64::to_be_bytes).concat()).unwrap();
    assert_eq!(kinds(&storage)[2..], [AreaKind::Several, AreaKind::Structure(Area::L1Table)]);
    // Stray bytes in the header, and a header that cannot be.
    storage.write_at(60_000, b"stray").unwrap();
    let found = explain_file(&storage).unwrap();
    assert_gapless(&found);
    let stray: Vec<_> = found.fields.iter().filter(|field| field.name == "unknown").collect();
    assert!(stray.len() == 1 && stray[0].range.contains(&60_000), "{stray:?}");
    storage.write_at(96, &[9]).unwrap();
    let found = explain_file(&storage).unwrap();
    assert!(found.fault.unwrap().to_string().contains("refcount_order"));
    assert!(found.areas.is_empty());
    assert!(explain_file(&MemoryStorage::new()).is_err());
}

/// Headers made of noise: every byte is in one field, whatever they point at.
#[test]
fn headers_of_noise_are_split_as_well() {
    let mut rng = Rng::announced(0x401e);
    for _ in 0..100 {
        let mut options = any_options(&mut rng);
        options.preallocation = Preallocation::Off;
        let storage = make(&options);
        for _ in 0..rng.within(1..6) {
            let mut noise = [0; 5];
            rng.fill(&mut noise);
            let at = *rng.pick(&[24, 60, 112, 200]);
            storage.write_at(rng.within(8..at), &noise[..rng.within(1..6) as usize]).unwrap();
        }
        let mut head = [0; 4];
        storage.read_exact_at(20, &mut head).unwrap();
        let Ok(found) = explain_file(&storage) else {
            assert!(!(9..=21).contains(&u32::from_be_bytes(head)));
            continue;
        };
        let end = found.fields.iter().fold(0, |end, field| {
            assert_eq!(field.range.start, end, "{:?}", found.fields);
            field.range.end
        });
        assert_eq!(end, found.header.len() as u64);
        if found.fault.is_none() {
            assert_gapless(&found);
        }
    }
}

#[test]
fn images_with_data_of_all_kinds_are_explained() {
    let folder = Folder::new();
    let path = folder.path("image.qcow2");
    let name = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", name, "8M"]).success();
    let commands =
        ["write -P 1 0 300k", "write -c -P 2 1M 64k", "write -P 3 5M 8k", "write -z 6M 4k"];
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    Qemu::io(["-f", "qcow2"].into_iter().chain(commands).chain([name])).success();
    let storage = block_io::OpenOptions::new().open(&path).unwrap();
    let found = explain_file(&storage).unwrap();
    assert_gapless(&found);
    let count = |kind: AreaKind| -> u64 {
        found.areas.iter().filter(|area| area.kind == kind).map(|area| area.count).sum()
    };
    assert_eq!(count(AreaKind::Structure(Area::Data)), 77);
    assert_eq!(count(AreaKind::CompressedData), 16);
    assert_eq!(count(AreaKind::Structure(Area::L2Table)), 3);
    assert_eq!(count(AreaKind::Several), 0);
    // The last compressed cluster does not fill the host cluster.
    let rest = found.areas.iter().filter(|area| area.kind == AreaKind::Unreached);
    assert!(rest.clone().all(|area| area.range.end - area.range.start < 4096), "{:?}", found.areas);
}
