//! Beside the real tool: equal bytes without preallocation, an equal disk with it.

use std::path::{Path, PathBuf};

use block_io::{Create, OpenOptions};
use cow_engine::{BackingReference, CreateOptions, CreatePlan, DataFileReference, Preallocation};
use qcow2_format::{ClusterBits, RefcountOrder};
use testkit::{Folder, Qemu, Rng};

use crate::choice::{any_options, any_preallocated, make_theirs, words};

/// Makes the image in a file, with its data file if it has one.
#[track_caller]
fn make_ours(path: &Path, options: &CreateOptions) {
    let open =
        |path: &Path| OpenOptions::new().write(true).create(Create::Truncate).open(path).unwrap();
    let storage = open(path);
    match &options.data_file {
        None => cow_engine::create(&storage, options),
        Some(file) => {
            let data = open(file.name.as_ref());
            cow_engine::create_with_data_file(&storage, &data, options)
        }
    }
    .unwrap();
}

/// Names that lead somewhere instead of those that `choice` has.
fn settle(folder: &Folder, options: &mut CreateOptions) {
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    if let Some(file) = &mut options.data_file {
        file.name = path("data");
    }
    if let Some(backing) = &mut options.backing {
        backing.name = path("base");
    }
}

#[track_caller]
fn assert_same_bytes(folder: &Folder, options: &CreateOptions) {
    let (ours, theirs) = (folder.path("ours"), folder.path("theirs"));
    make_theirs(&theirs, options);
    make_ours(&ours, options);
    let (ours, theirs) = (std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap());
    if ours != theirs {
        let at = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        panic!("{}: {} and {} bytes, {at:?}", words(options), ours.len(), theirs.len());
    }
}

#[test]
fn every_geometry_gives_the_bytes_of_the_real_tool() {
    let folder = Folder::new();
    for bits in 9..=21 {
        for order in (bits % 2..=6).step_by(2) {
            let mut options = CreateOptions::new((3 << (bits * 2 - 3)) + 512);
            options.cluster_bits = ClusterBits::new(bits).unwrap();
            options.refcount_order = RefcountOrder::new(order).unwrap();
            options.extended_l2 = bits >= 14 && order < 4;
            assert_same_bytes(&folder, &options);
        }
    }
}

#[test]
fn random_options_give_the_bytes_of_the_real_tool() {
    let mut rng = Rng::announced(0xc1ea);
    let folder = Folder::new();
    for _ in 0..100 {
        let mut options = any_options(&mut rng);
        settle(&folder, &mut options);
        let data_of = |options: &CreateOptions| {
            let file = options.data_file.as_ref()?;
            Some(std::fs::metadata(&file.name).unwrap().len())
        };
        assert_same_bytes(&folder, &options);
        assert_eq!(data_of(&options).unwrap_or(options.virtual_size), options.virtual_size);
    }
}

/// The blocks behind the L1 table, and the one that counts the first of them.
#[test]
fn l1_tables_that_need_many_refcount_blocks_lie_where_the_real_tool_puts_them() {
    let folder = Folder::new();
    for (bits, order, size) in [
        (9, 0, 128 << 30),
        (9, 4, 1 << 30),
        (9, 4, 16 << 30),
        (9, 6, 4 << 30),
        (9, 6, (1 << 30) + (57 << 21)), // the L1 table ends where a block does
        (9, 6, (1 << 30) + (58 << 21)),
        (9, 6, (1 << 30) + (59 << 21)),
        (10, 6, 64 << 30),
        (12, 6, 8 << 40),
    ] {
        let mut options = CreateOptions::new(size);
        options.cluster_bits = ClusterBits::new(bits).unwrap();
        options.refcount_order = RefcountOrder::new(order).unwrap();
        assert_same_bytes(&folder, &options);
    }
}

/// Where the real tool has to move its refcount table we do not follow: it leaves the old one
/// behind as garbage.
#[test]
fn a_table_that_would_have_to_grow_is_made_large_enough() {
    let folder = Folder::new();
    for (bits, order, size) in [(9, 6, 9 << 30), (9, 6, 12 << 30)] {
        let mut options = CreateOptions::new(size);
        options.cluster_bits = ClusterBits::new(bits).unwrap();
        options.refcount_order = RefcountOrder::new(order).unwrap();
        let plan = CreatePlan::new(&options).unwrap();
        let table = plan.header().refcount_table();
        assert!(table.count > 1 && table.offset.get() == 512);
        let (ours, theirs) = (folder.path("ours"), folder.path("theirs"));
        make_ours(&ours, &options);
        Qemu::check(&ours);
        make_theirs(&theirs, &options);
        let len = |path: PathBuf| std::fs::metadata(path).unwrap().len();
        assert!(len(ours) < len(theirs));
    }
}

/// The array of `qemu-img map` with places left out and equal neighbours merged.
fn map(path: &Path) -> Vec<(u64, String)> {
    let map = Qemu::map_json("qcow2", path);
    let mut runs: Vec<(u64, String)> = Vec::new();
    for entry in map.as_array().unwrap() {
        let mut facts = entry.clone();
        let facts_of = facts.as_object_mut().unwrap();
        facts_of.remove("offset");
        facts_of.remove("start");
        let length = facts_of.remove("length").unwrap().as_u64().unwrap();
        let facts = facts.to_string();
        match runs.last_mut() {
            Some((before, last)) if *last == facts => *before += length,
            _ => runs.push((length, facts)),
        }
    }
    runs
}

#[test]
fn preallocated_images_show_what_those_of_the_real_tool_show() {
    let mut rng = Rng::announced(0x9ea1);
    let folder = Folder::new();
    let base: Vec<u8> = (0..300_000).map(|at| (at / 1000) as u8).collect();
    for _ in 0..60 {
        let mut options = any_preallocated(&mut rng);
        settle(&folder, &mut options);
        if let Some(backing) = &mut options.backing {
            backing.format = Some("raw".into());
            folder.write("base", &base);
        }
        let text = words(&options);
        let (ours, theirs) = (folder.path("ours"), folder.path("theirs"));
        make_theirs(&theirs, &options);
        let their_map = map(&theirs);
        let raw = folder.path("theirs.raw");
        let raw = raw.to_str().unwrap();
        Qemu::img(["convert", "-f", "qcow2", "-O", "raw", theirs.to_str().unwrap(), raw]).success();
        make_ours(&ours, &options);
        Qemu::check(&ours);
        // What shares a block of the host with a table of theirs, or with the zeros that they
        // write behind the disk, is data there.
        let whole_blocks =
            options.virtual_size.is_multiple_of(4096) && options.cluster_bits.get() >= 12;
        if options.data_file.is_none() && whole_blocks {
            assert_eq!(map(&ours), their_map, "{text}");
        }
        Qemu::assert_same(("qcow2", &ours), ("raw", raw.as_ref()));
        let len = |path: &Path| std::fs::metadata(path).unwrap().len();
        // Theirs may hold a refcount table that was given up.
        assert!(len(&ours) <= len(&theirs), "{text}: {} and {}", len(&ours), len(&theirs));
        let few = 4 << options.cluster_bits.get();
        assert!(len(&ours) + few + len(&theirs) / 64 >= len(&theirs), "{text}");
    }
}

/// Which parts of a data file are data does not depend on the image.
#[test]
fn a_raw_data_file_is_mapped_cluster_by_cluster() {
    let folder = Folder::new();
    for extended_l2 in [false, true] {
        let mut options = CreateOptions::new((5 << 16) + 512);
        options.extended_l2 = extended_l2;
        options.data_file = Some(DataFileReference { name: String::new(), raw: true });
        settle(&folder, &mut options);
        let ours = folder.path("ours");
        make_ours(&ours, &options);
        Qemu::check(&ours);
        let table: Vec<u8> = folder.read("ours")[4 << 16..].to_vec();
        let entry = |at: usize| u64::from_be_bytes(table[at..at + 8].try_into().unwrap());
        let step = if extended_l2 { 16 } else { 8 };
        for cluster in 0..6 {
            assert_eq!(entry(cluster * step), 1 << 63 | (cluster as u64) << 16);
            assert!(!extended_l2 || entry(cluster * step + 8) == 0);
        }
        assert_eq!(entry(6 * step), 0);
        let theirs = folder.path("theirs");
        make_theirs(&theirs, &options);
        assert!(std::fs::read(ours).unwrap() == std::fs::read(theirs).unwrap());
    }
}

/// Long names that still fit, and one byte more.
#[test]
fn names_that_fill_the_first_cluster() {
    let folder = Folder::new();
    let mut options = CreateOptions::new(1 << 20);
    options.cluster_bits = ClusterBits::new(9).unwrap();
    let name = |bytes: usize| BackingReference { name: "b".repeat(bytes), format: None };
    for (backing, fits) in [(392, true), (393, false)] {
        options.backing = Some(name(backing));
        assert_eq!(CreatePlan::new(&options).is_ok(), fits, "{backing}");
    }
    options.backing = Some(name(392));
    options.preallocation = Preallocation::Off;
    make_ours(&folder.path("ours"), &options);
    assert!(folder.read("ours").ends_with(&[0; 8]));
}
