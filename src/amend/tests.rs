//! Power cuts while a header is switched: the image is the old one or the new one, and at worst has
//! clusters that are kept in vain.

use block_io::MemoryStorage;
use qcow2_format::Version;
use testkit::{CrashPlan, CrashStorage, Folder, Qemu};

use super::{AmendOptions, Wanted};
use crate::check::{CheckOptions, Outcome, check};

/// An image of the real tool with data and as many snapshots.
fn made(folder: &Folder, flags: &[&str], snapshots: usize) -> Vec<u8> {
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    let create = ["create", "-q", "-u", "-f", "qcow2"];
    Qemu::img(create.iter().chain(flags).chain(&[image, "64k"])).success();
    for number in 0..snapshots {
        Qemu::io(["-f", "qcow2", "-c", "write -P 1 0 20k", image]).success();
        Qemu::img(["snapshot", "-c", &format!("s{number}"), image]).success();
    }
    std::fs::read(path).unwrap()
}

/// Cuts the power while an image is amended, and looks at what is left.
fn cut_power(name: &str, bytes: &[u8], options: &AmendOptions) {
    let storage = CrashStorage::on(MemoryStorage::from(bytes));
    let old = cow_engine::read_header(&storage).unwrap();
    let wanted = Wanted::new(&old, options).unwrap();
    wanted.apply(&storage, &old, &mut |_, _| {}).unwrap();
    let new = cow_engine::read_header(&storage).unwrap();
    assert_ne!(new, old, "{name}: nothing has changed");
    let said = |header: &qcow2_format::Header| {
        let order = header.geometry().refcount_order();
        let backing = header.backing_name().map(<[u8]>::to_vec);
        let tables = (header.refcount_table(), header.snapshot_table());
        (header.version(), order, header.features(), backing, tables)
    };
    let plan = CrashPlan { states_max: 60, ..CrashPlan::default() };
    let states = storage.log().check_states(&plan, |_, medium| {
        let found = cow_engine::read_header(&medium).unwrap();
        assert!([said(&old), said(&new)].contains(&said(&found)), "{name}: {found:?}");
        let outcome = check(&medium, CheckOptions::default()).unwrap().outcome();
        assert!(matches!(outcome, Outcome::Consistent | Outcome::Leaks), "{name}: {outcome:?}");
    });
    assert!(states > 2, "{name}: {states} states");
}

#[test]
fn the_old_image_or_the_new_one() {
    let folder = Folder::new();
    let far = format!("{}base.raw", "./".repeat(250));
    let upgrade = AmendOptions { version: Some(Version::V3), ..AmendOptions::default() };
    let downgrade = AmendOptions { version: Some(Version::V2), ..AmendOptions::default() };
    let wide = AmendOptions { refcount_bits: Some(64), ..AmendOptions::default() };
    let both =
        AmendOptions { lazy_refcounts: Some(true), refcount_bits: Some(32), ..upgrade.clone() };
    let old = ["-o", "compat=0.10", "-b", &far, "-F", "raw"];
    let new = ["-o", "compat=1.1", "-b", &far, "-F", "raw"];
    for (name, flags, snapshots, options) in [
        ("upgrade", &["-o", "compat=0.10"][..], 0, &upgrade),
        ("upgrade with snapshots", &["-o", "compat=0.10,cluster_size=4k"], 2, &upgrade),
        ("upgrade over a far backing file", &old, 0, &upgrade),
        ("downgrade", &["-o", "compat=1.1"], 0, &downgrade),
        ("downgrade over a far backing file", &new, 0, &downgrade),
        ("wider counts", &["-o", "cluster_size=512"], 1, &wide),
        ("everything", &["-o", "compat=0.10,cluster_size=512"], 2, &both),
    ] {
        cut_power(name, &made(&folder, flags, snapshots), options);
    }
}
