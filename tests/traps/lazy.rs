//! Lazy refcounts: who is killed leaves the dirty bit, and nobody writes before a repair.

use testkit::{IoSession, Qemu};

use super::disk::Disk;

/// The dirty bit.
const DIRTY: u64 = 1;

type Start = fn(&[&str]) -> Result<IoSession, String>;

/// Opens the image in a session of its own, writes and flushes there, and is killed.
fn write_and_die(disk: &Disk, start: Start) {
    let mut session = start(&["-f", "qcow2", disk.name()]).unwrap();
    for command in ["write -P 5 0 256k", "write -P 6 512k 64k", "flush"] {
        let said = session.command(command);
        assert!(!said.contains("failed"), "{said}");
    }
    session.kill();
}

fn expected() -> Vec<u8> {
    let mut expected = vec![0; 1 << 20];
    expected[..256 << 10].fill(5);
    expected[512 << 10..576 << 10].fill(6);
    expected
}

#[test]
fn a_killed_writer_leaves_the_dirty_bit_and_the_next_one_repairs_first() {
    let starts: [Start; 2] = [|words| IoSession::start(words), |words| IoSession::start_own(words)];
    for start in starts {
        let made = Disk::new("-o lazy_refcounts=on 1M");
        write_and_die(&made, start);
        assert_eq!(made.word(72), DIRTY, "nobody has closed it");
        made.img("check").exits(2);
        made.qimg("check").exits(2);
        // Readers see what was flushed, and leave the bit to others.
        made.assert_content(&expected());
        assert_eq!(made.word(72), DIRTY, "a reader repairs nothing");
        for hand in [Disk::theirs, Disk::ours] {
            let disk = made.copy();
            hand(&disk, &["write -P 7 768k 64k"]);
            assert_eq!(disk.word(72), 0, "clean again");
            let mut expected = expected();
            expected[768 << 10..832 << 10].fill(7);
            disk.assert_content(&expected);
            disk.assert_sound();
        }
    }
}

#[test]
fn a_writer_that_closes_leaves_no_dirty_bit_and_right_counts() {
    let disk = Disk::new("-o lazy_refcounts=on 1M");
    disk.ours(&["write -P 5 0 256k", "write -P 6 512k 64k", "discard 64k 64k"]);
    assert_eq!(disk.word(72), 0);
    assert_eq!(disk.word(80), 1, "the wish for lazy refcounts stays");
    disk.assert_sound();
}

#[test]
fn a_repair_puts_nothing_where_a_lost_cluster_was() {
    // The file ends early after a crash of the host: clusters that entries point at are gone, and
    // must not become the place of new counts, or the guest would read those.
    let disk = Disk::new("-o lazy_refcounts=on,cluster_size=4k 8M");
    let mut session = IoSession::start(["-f", "qcow2", disk.name()]).unwrap();
    for command in ["write -P 5 0 256k", "write -P 6 1M 256k", "flush"] {
        assert!(!session.command(command).contains("failed"));
    }
    session.kill();
    let lost = disk.l2_entry(0x11_0000) & 0x00ff_ffff_ffff_fe00;
    let file = std::fs::OpenOptions::new().write(true).open(&disk.path).unwrap();
    file.set_len(lost).unwrap();
    drop(file);
    let output = disk.qimg("check -r all");
    assert!(matches!(output.code, Some(0..=3)), "{output:?}");
    // What lies behind the cut is lost: zeros or an error, never anything else.
    let mut known = vec![0_u8; 8 << 20];
    known[..256 << 10].fill(5);
    known[1 << 20..0x11_0000].fill(6);
    let chain = disk.open_read_only();
    let mut sector = [0; 512];
    for at in (0..8_u64 << 20).step_by(512) {
        let is_lost = (0x11_0000..0x14_0000).contains(&at);
        match chain.read_at(at, &mut sector) {
            Ok(()) => assert!(sector == known[at as usize..][..512], "sector {at:#x}"),
            Err(error) => assert!(is_lost, "sector {at:#x}: {error}"),
        }
    }
    drop(chain);
    if output.code == Some(0) {
        Qemu::check(&disk.path);
    }
}
