//! Writing beside internal snapshots: what they share is copied before it changes, and flags in
//! tables that are not in use are not believed.

use std::sync::Arc;

use qimg::check::{CheckOptions, check};
use qimg::engine::{Image, OpenOptions, ZeroMode};
use qimg::io::{MemoryStorage, Storage};
use testkit::{CallSet, Fault, FaultStorage, Folder, Pattern, Qemu};

use super::disk::Disk;

const SIZE: usize = 1 << 20;

/// A disk with every kind of cluster, and the snapshot `s` of it; also what it shows.
fn with_snapshot(options: &str) -> (Disk, Vec<u8>) {
    let disk = Disk::over(&format!("{options} 1M"), &Pattern::new(4).bytes(0, SIZE));
    let pattern = format!("write -s {} 0 512k", disk.folder.path("base.raw").display());
    disk.theirs(&[&pattern, "write -z 128k 64k"]);
    disk.theirs(&["write -c -P 3 512k 64k", "write -c -P 4 576k 64k"]);
    let content = disk.content();
    disk.img("snapshot -c s").success();
    (disk, content)
}

/// The snapshot still shows `content`.
#[track_caller]
fn assert_snapshot(disk: &Disk, content: &[u8]) {
    let copy = disk.folder.path("snapshot.raw");
    let name = copy.to_str().unwrap();
    Qemu::img(["convert", "-f", "qcow2", "-O", "raw", "-l", "snapshot.name=s", disk.name(), name])
        .success();
    assert!(std::fs::read(&copy).unwrap() == content, "the snapshot has changed");
}

const OPTIONS: [&str; 5] = [
    "-o cluster_size=64k",
    "-o cluster_size=4k",
    "-o compat=0.10",
    "-o extended_l2=on",
    "-o refcount_bits=64,lazy_refcounts=on",
];

#[test]
fn what_a_snapshot_holds_is_copied_before_it_is_written() {
    for options in OPTIONS {
        let (disk, old) = with_snapshot(options);
        let mut now = old.clone();
        disk.ours(&["write -P 9 1000 70000", "write -P 8 140000 1000", "write -P 7 530000 10"]);
        now[1000..71_000].fill(9);
        now[140_000..141_000].fill(8);
        now[530_000..530_010].fill(7);
        disk.assert_content(&now);
        assert_snapshot(&disk, &old);
        disk.assert_sound();
        disk.img("snapshot -a s").success();
        disk.assert_content(&old);
        disk.assert_sound();
    }
}

#[test]
fn a_shared_table_is_copied_before_discards_and_zeros_too() {
    for options in OPTIONS {
        for command in ["discard 64k 64k", "write -z 64k 64k", "write -z -u 512k 64k"] {
            let (disk, old) = with_snapshot(options);
            disk.ours(&[command]);
            let at = if command.contains("512k") { 512 << 10 } else { 64 << 10 };
            let mut now = old.clone();
            now[at..at + (64 << 10)].fill(0);
            disk.assert_content(&now);
            assert_snapshot(&disk, &old);
            disk.assert_sound();
        }
    }
}

#[test]
fn flags_of_tables_that_come_back_are_not_believed() {
    for options in OPTIONS {
        let (disk, old) = with_snapshot(options);
        disk.ours(&["write -P 9 0 256k"]);
        // The snapshot's tables are in use again, with flags from the time when it was made.
        disk.img("snapshot -a s").success();
        disk.assert_sound();
        let mut now = old.clone();
        disk.ours(&["write -P 8 0 192k"]);
        now[..192 << 10].fill(8);
        disk.assert_content(&now);
        assert_snapshot(&disk, &old);
        // Without the snapshot nothing is shared any more.
        disk.img("snapshot -d s").success();
        disk.ours(&["write -P 7 0 128k"]);
        now[..128 << 10].fill(7);
        disk.assert_content(&now);
        disk.assert_sound();
    }
}

#[test]
fn a_failure_while_a_shared_table_is_copied_loses_nothing() {
    let (disk, old) = with_snapshot("-o cluster_size=64k");
    let made = disk.bytes();
    let folder = Folder::new();
    for nth in 1.. {
        let storage = Arc::new(FaultStorage::new(MemoryStorage::from(&made[..])));
        let shared = Arc::clone(&storage) as Arc<dyn Storage>;
        let image = Image::open(shared, OpenOptions::new()).unwrap();
        storage.arm(Fault::nth(nth, CallSet::CHANGES));
        let done = [
            image.write_at(0, &[9; 4096]).is_ok(),
            image.write_zeroes_at(128 << 10, 64 << 10, ZeroMode::Unmap).is_ok(),
            image.flush().is_ok(),
        ];
        let fired = storage.fired() > 0;
        storage.heal();
        drop(image);
        let report = check(storage.inner(), CheckOptions::default()).unwrap();
        assert_eq!(report.corruptions, 0, "call {nth}: {:?}", report.findings);
        let path = folder.write("after.qcow2", &storage.inner().to_vec());
        let after = Disk { folder: Folder::new(), path };
        assert_snapshot(&after, &old);
        let now = after.content();
        assert!(now[4096..] == old[4096..], "call {nth}: bytes that nobody wrote");
        if !fired {
            assert_eq!(done, [true; 3]);
            assert!(nth > 6, "only {nth} calls");
            break;
        }
    }
}
