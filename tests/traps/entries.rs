//! L1 and L2 entries: what is asked below, and what a bad entry among good ones does.

use std::sync::Arc;

use qimg::engine::{Image, OpenOptions};
use qimg::io::{MemoryStorage, Storage};
use testkit::{Call, CallSet, Fault, FaultStorage, Pattern};

use super::disk::{Disk, reads, they_read};

const SIZE: usize = 4 << 20;

#[test]
fn an_unallocated_entry_in_an_allocated_table_falls_to_the_backing_file() {
    let base = Pattern::new(1).bytes(0, SIZE);
    for options in ["cluster_size=512", "cluster_size=4k,compat=0.10", "", "cluster_size=2M"] {
        let options = format!("-F raw -b @base.raw -o cluster_size=64k,{options}");
        let disk = Disk::over(options.trim_end_matches(','), &base);
        disk.theirs(&["write -P 9 1M 512"]);
        let mut expected = base.clone();
        expected[1 << 20..][..512].fill(9);
        disk.assert_content(&expected);
        // Ours leaves its neighbours to the backing file too.
        disk.ours(&["write -P 8 1536k 512"]);
        expected[1536 << 10..][..512].fill(8);
        disk.assert_content(&expected);
        disk.assert_sound();
    }
}

#[test]
fn a_bad_entry_in_the_middle_of_a_read_fails_all_of_it_and_nothing_else() {
    let disk = Disk::new("1M");
    disk.theirs(&["write -P 1 0 256k"]);
    // No host cluster starts there.
    disk.poke_word(disk.l2_entry_at(1 << 16), 0x8000_0000_0006_0200);
    let before = disk.bytes();
    let chain = disk.open_read_only();
    assert_eq!(reads(&chain, 0, 256 << 10), None, "part of it is unreadable");
    assert_eq!(reads(&chain, 65_535, 2), None, "the second byte is unreadable");
    assert_eq!(reads(&chain, 0, 65_536), Some(vec![1; 65_536]), "before it");
    assert_eq!(reads(&chain, 128 << 10, 128 << 10), Some(vec![1; 128 << 10]), "behind it");
    drop(chain);
    assert!(disk.bytes() == before, "a reader marks nothing");
    for (offset, len) in [(0, 256 << 10), (65_535, 2), (0, 65_536), (128 << 10, 128 << 10)] {
        let ours = reads(&disk.open_read_only(), offset, len).is_some();
        assert_eq!(they_read(&disk.path, offset, len), ours, "{offset} {len}");
    }
}

#[test]
fn a_host_error_in_the_middle_of_a_read_is_never_taken_for_bytes() {
    let disk = Disk::new("1M");
    // Written backwards, so that every guest cluster is a run of its own.
    for cluster in (0..6).rev() {
        disk.theirs(&[&format!("write -P {} {}k 64k", cluster + 1, cluster * 64)]);
    }
    disk.theirs(&["write -c -P 7 384k 64k", "write -c -P 8 448k 64k"]);
    let expected = disk.content()[..512 << 10].to_vec();
    let storage = Arc::new(FaultStorage::new(MemoryStorage::from(&disk.bytes()[..])));
    let mut failures = 0;
    for nth in 1.. {
        // A new image each time: nothing is cached.
        let shared = Arc::clone(&storage) as Arc<dyn Storage>;
        let image = Image::open(shared, OpenOptions::new().read_only(true)).unwrap();
        storage.arm(Fault::nth(nth, CallSet::of(&[Call::Read])));
        let mut bytes = vec![0xee; expected.len()];
        let read = image.read_at(0, &mut bytes);
        let fired = storage.fired() > 0;
        storage.heal();
        assert_eq!(read.is_err(), fired, "the failure of read {nth} is told");
        if !fired {
            assert!(bytes == expected);
            break;
        }
        failures += 1;
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == expected, "after the failure of read {nth}");
    }
    assert!(failures >= 8, "only {failures} reads of the host");
}
