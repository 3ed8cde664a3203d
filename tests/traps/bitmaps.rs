//! Persistent bitmaps, for a writer that does not keep them: it does not write where somebody
//! vouches for them.

use qimg::format::Header;
use testkit::{IoSession, Qemu, built_program, run};

use super::disk::{Disk, word};

/// An image with a bitmap, and where its directory lies.
fn with_bitmap() -> (Disk, u64) {
    let disk = Disk::new("1M");
    Qemu::img(["bitmap", "--add", disk.name(), "b0"]).success();
    disk.theirs(&["write -P 1 0 64k"]);
    let header = Header::decode(&disk.bytes()).unwrap();
    let directory = header.bitmaps().unwrap().directory_offset().get();
    (disk, directory)
}

#[track_caller]
fn assert_left_alone(disk: &Disk) {
    let before = disk.bytes();
    disk.try_ours(&[], &["write -P 2 0 64k"]).exits(1);
    run(&built_program("qimg"), ["resize", "-f", "qcow2", disk.name(), "2M"]).exits(1);
    assert!(disk.bytes() == before, "who is refused changes nothing");
}

#[test]
fn images_with_bitmaps_are_not_written() {
    let (disk, directory) = with_bitmap();
    assert_left_alone(&disk);
    let table = word(&disk.bytes(), directory);
    let damages: [(u64, &[u8]); 5] = [
        // In use; a flag that nobody knows; a table of another length; an entry that is neither;
        // one that says "all ones".
        (directory + 12, &[0, 0, 0, 3]),
        (directory + 12, &[0, 0, 0, 4]),
        (directory + 8, &[0, 0, 0, 2]),
        (table, &[0, 0, 0, 0, 0, 8, 0, 1]),
        (table, &[0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for (at, bytes) in damages {
        let disk = disk.copy();
        disk.poke(at, bytes);
        assert_left_alone(&disk);
        // What a guest reads has nothing to do with it.
        assert!(disk.content()[..65_536] == [1; 65_536]);
    }
}

#[test]
fn a_bitmap_that_a_killed_writer_left_in_use_keeps_the_disk_at_its_size() {
    let (disk, directory) = with_bitmap();
    let mut session = IoSession::start(["-f", "qcow2", disk.name()]).unwrap();
    session.command("write -P 3 0 64k");
    session.kill();
    assert_eq!(disk.word(directory + 8) & 1, 1, "in use");
    Qemu::img(["resize", "-f", "qcow2", disk.name(), "2M"]).exits(1);
    assert_left_alone(&disk);
}
