//! Extended L2 entries: bitmaps that contradict themselves, preallocated clusters that stay
//! transparent, and tables that map half as much.

use super::disk::{Disk, reads, they_read};
use testkit::Pattern;

const CLUSTER: usize = 65_536;
/// Bytes of a subcluster.
const SUB: usize = 2048;
/// All 32 subclusters hold data.
const ALL: u64 = 0xffff_ffff;

#[test]
fn bit_0_of_a_descriptor_means_nothing() {
    let disk = Disk::new("-o extended_l2=on 1M");
    disk.theirs(&["write -P 7 0 64k"]);
    let at = disk.l2_entry_at(0);
    disk.poke_word(at, disk.word(at) | 1);
    let mut expected = vec![0; 1 << 20];
    expected[..CLUSTER].fill(7);
    disk.assert_content(&expected);
    disk.ours(&["write -P 8 0 512"]);
    expected[..512].fill(8);
    disk.assert_content(&expected);
}

#[test]
fn a_bitmap_that_contradicts_itself_spoils_its_cluster_and_no_other() {
    let made = Disk::new("-o extended_l2=on 1M");
    made.theirs(&["write -P 7 0 128k"]);
    // Of the last subcluster alone: data and zeros at once. Then data without a host cluster.
    let cases = [(None, 0x8000_0000_8000_0001), (Some(0), 1), (Some(0), 1 << 31)];
    for (descriptor, bitmap) in cases {
        let disk = made.copy();
        let at = disk.l2_entry_at(0);
        if let Some(descriptor) = descriptor {
            disk.poke_word(at, descriptor);
        }
        disk.poke_word(at + 8, bitmap);
        let before = disk.bytes();
        let chain = disk.open_read_only();
        for sub in [0, 16, 31] {
            assert_eq!(reads(&chain, (sub * SUB) as u64, SUB), None, "subcluster {sub}");
            assert!(!they_read(&disk.path, (sub * SUB) as u64, SUB), "subcluster {sub}");
        }
        assert_eq!(reads(&chain, CLUSTER as u64, CLUSTER), Some(vec![7; CLUSTER]));
        assert!(they_read(&disk.path, CLUSTER as u64, CLUSTER));
        drop(chain);
        assert!(disk.bytes() == before, "a reader marks nothing");
        // Nobody writes into what nobody understands.
        for hand in [Disk::try_theirs, Disk::try_ours] {
            let disk = disk.copy();
            let output = hand(&disk, &[], &["write -P 9 0 512"]);
            assert!(!output.stdout.contains("wrote 512/512"), "{output:?}");
            assert_eq!(disk.l2_entry(0), disk.word(at), "the entry is as it was");
            assert_eq!(disk.word(at + 8), bitmap, "the bitmap is as it was");
        }
    }
}

#[test]
fn zero_bits_need_no_host_cluster_and_hide_the_backing_file() {
    let base = Pattern::new(2).bytes(0, 1 << 20);
    let disk = Disk::over("-o extended_l2=on -F raw -b @base.raw", &base);
    disk.theirs(&["write -P 7 64k 64k"]);
    let at = disk.l2_entry_at(0);
    disk.poke_word(at + 8, 0x0000_ffff_0000_0000);
    let mut expected = base;
    expected[..16 * SUB].fill(0);
    expected[CLUSTER..2 * CLUSTER].fill(7);
    disk.assert_content(&expected);
    // A write keeps them, and copies from below no more than it must.
    disk.ours(&["write -P 8 40000 100"]);
    expected[40_000..40_100].fill(8);
    disk.assert_content(&expected);
    assert_eq!(disk.word(at + 8), 0x0000_ffff_0000_0000 | 1 << (40_000 / SUB));
    disk.assert_sound();
}

#[test]
fn a_table_of_extended_entries_maps_half_as_much() {
    for (options, entries) in [("extended_l2=off", 2), ("extended_l2=on", 4)] {
        let disk = Disk::new(&format!("-o {options} 1G"));
        assert_eq!(disk.word(36) >> 32, entries, "the real tool");
        let options = format!("create -q -f qcow2 -o size=1G,{options}");
        disk.qimg(&options).success();
        assert_eq!(disk.word(36) >> 32, entries, "ours");
        // Before and behind the border between the first two tables.
        disk.ours(&["write -P 5 262080k 128k", "write -P 6 524224k 128k"]);
        disk.theirs(&["read -P 5 262080k 128k", "read -P 6 524224k 128k"]);
        disk.assert_sound();
    }
}

#[test]
fn preallocated_clusters_stay_transparent() {
    let base = Pattern::new(3).bytes(0, 1 << 20);
    for program in [Disk::img, Disk::qimg] {
        let disk = Disk::over("1M", &base);
        let words =
            "create -q -f qcow2 -F raw -b @base.raw -o extended_l2=on,preallocation=metadata";
        program(&disk, words).success();
        assert_eq!(disk.l2_entry(0) >> 63, 1, "the first cluster is there");
        assert_eq!(disk.word(disk.l2_entry_at(0) + 8), 0, "and says nothing yet");
        disk.assert_content(&base);
        let place = disk.l2_entry(0);
        disk.ours(&["write -P 9 5000 100"]);
        let mut expected = base.clone();
        expected[5000..5100].fill(9);
        disk.assert_content(&expected);
        assert_eq!(disk.l2_entry(0), place, "written where it was reserved");
        disk.assert_sound();
    }
}

#[test]
fn a_write_over_compressed_subclusters_brings_all_of_them() {
    for program in [Disk::theirs, Disk::ours] {
        let disk = Disk::new("-o extended_l2=on 1M");
        program(&disk, &["write -c -P 1 0 64k"]);
        assert_eq!(disk.l2_entry(0) >> 62, 1, "compressed");
        assert_eq!(disk.word(disk.l2_entry_at(0) + 8), 0, "compressed clusters have no bitmap");
        program(&disk, &["write -P 2 0 512"]);
        assert_eq!(disk.word(disk.l2_entry_at(0) + 8), ALL, "all hold data");
        let mut expected = vec![0; 1 << 20];
        expected[..CLUSTER].fill(1);
        expected[..512].fill(2);
        disk.assert_content(&expected);
        disk.assert_sound();
    }
}
