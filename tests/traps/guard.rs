//! Entries that lead into metadata: nothing is written there, the image is marked, and a marked
//! image is only read.

use super::disk::Disk;

const CORRUPT: u64 = 2;

/// An image whose guest cluster 1 is said to be the L1 table.
fn with_data_on_the_l1_table() -> Disk {
    let disk = Disk::new("1M");
    disk.theirs(&["write -P 1 0 256k"]);
    disk.poke_word(disk.l2_entry_at(65_536), 0x8000_0000_0003_0000);
    disk
}

#[test]
fn data_is_never_written_over_metadata_and_the_image_is_marked() {
    for hand in [Disk::try_theirs, Disk::try_ours] {
        let disk = with_data_on_the_l1_table();
        let before = disk.bytes();
        let output = hand(&disk, &[], &["write -P 9 64k 64k"]);
        assert!(!output.stdout.contains("wrote 65536/65536"), "{output:?}");
        let after = disk.bytes();
        assert!(after[65_536..] == before[65_536..], "only the header has changed");
        assert_eq!(disk.word(72), CORRUPT, "{output:?}");
    }
}

#[test]
fn readers_of_a_damaged_image_mark_nothing() {
    for hand in [Disk::try_theirs, Disk::try_ours] {
        let disk = with_data_on_the_l1_table();
        // A cluster that is no cluster, which a reader finds out.
        disk.poke_word(disk.l2_entry_at(131_072), 0x8000_0000_0006_0200);
        let before = disk.bytes();
        let output = hand(&disk, &["-r"], &["read 128k 64k", "read -P 1 192k 64k"]);
        assert!(!output.stdout.contains("Pattern verification failed"), "{output:?}");
        assert_eq!(output.stdout.matches("read 65536/65536").count(), 1, "{output:?}");
        assert!(disk.bytes() == before, "a reader marks nothing");
    }
}

#[test]
fn a_marked_image_is_read_but_not_written_until_it_is_repaired() {
    let disk = Disk::new("1M");
    disk.theirs(&["write -P 1 0 256k"]);
    disk.poke_word(72, CORRUPT);
    let before = disk.bytes();
    for hand in [Disk::try_theirs, Disk::try_ours] {
        hand(&disk, &["-r"], &["read -P 1 0 256k"]).success();
        hand(&disk, &[], &["write -P 2 0 64k"]).exits(1);
        assert!(disk.bytes() == before, "who is refused changes nothing");
    }
    for program in [Disk::img, Disk::qimg] {
        let disk = disk.copy();
        program(&disk, "check -r all").success();
        assert_eq!(disk.word(72), 0, "nothing is wrong, so the mark goes");
        disk.ours(&["write -P 2 0 64k"]);
        disk.assert_sound();
    }
}
