//! The header: what a writer must leave as it is, and whom the same header is good enough for.

use super::disk::Disk;

/// A new image whose header has a field that nobody knows and three such extensions, one of
/// length 0.
fn with_unknown_things() -> Disk {
    let disk = Disk::new("64M");
    let bytes = disk.bytes();
    let mut header = bytes[..112].to_vec();
    header[100..104].copy_from_slice(&120_u32.to_be_bytes());
    // The wish for lazy refcounts, and compatible bits that nobody knows.
    header[80..88].copy_from_slice(&(1_u64 << 40 | 1 << 7 | 1).to_be_bytes());
    header.extend(*b"new here");
    for (magic, data) in [(0x1111_2222_u32, &b"12345"[..]), (0x1111_3333, b""), (0x0bad_cafe, b"8")]
    {
        header.extend(magic.to_be_bytes());
        header.extend((data.len() as u32).to_be_bytes());
        header.extend(data);
        header.resize(header.len().next_multiple_of(8), 0);
    }
    // The feature name table and the end marker of the real tool.
    header.extend(&bytes[112..512]);
    disk.poke(0, &header);
    disk
}

#[test]
fn unknown_fields_extensions_and_compatible_bits_survive_our_writes() {
    let disk = with_unknown_things();
    let before = disk.bytes();
    disk.img("info").success();
    disk.ours(&["write -P 1 0 1M", "write -z 4M 1M", "discard 0 64k", "flush"]);
    disk.qimg("check -r all").success();
    assert!(disk.bytes()[..65_536] == before[..65_536], "cluster 0 is what it was");
    disk.assert_sound();
}

/// Fields of a new header, what is put there, and whether it is then accepted by those who read.
const HEADERS: [(&str, u64, &[u8], bool); 14] = [
    ("a size that fills no sector", 30, &[0x03, 0xe8], true),
    ("a header of 104 bytes has no compression type", 100, &[0, 0, 0, 104, 1, 0, 0, 0], true),
    ("a header of 105 bytes has one", 100, &[0, 0, 0, 105, 1, 0, 0, 0], false),
    ("padding is not looked at", 105, &[1, 2, 3, 4, 5, 6, 7], true),
    ("an unknown autoclear bit", 88, &[0, 0, 0, 0, 0, 0, 2, 0], true),
    ("an unknown incompatible bit", 72, &[0, 0, 0, 0, 0, 0, 0, 32], false),
    ("an unknown compatible bit", 80, &[0, 0, 1, 0, 0, 0, 0, 0], true),
    ("the compression bit without a type", 72, &[0, 0, 0, 0, 0, 0, 0, 8], false),
    ("a compression type without the bit", 104, &[1], false),
    ("no snapshots at an odd place", 64, &[0, 0, 0, 0, 0, 0, 2, 0], false),
    ("a backing name of no bytes", 8, &[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], true),
    ("raw external data without external data", 88, &[0, 0, 0, 0, 0, 0, 0, 2], true),
    ("bitmaps promised but absent", 88, &[0, 0, 0, 0, 0, 0, 0, 1], true),
    ("encryption that nobody knows", 32, &[0, 0, 0, 3], false),
];

#[test]
fn the_same_headers_are_accepted_and_refused_as_by_the_real_tool() {
    for (what, at, bytes, accepted) in HEADERS {
        let disk = Disk::new("1M");
        if what.contains("104 bytes") {
            // What follows is no longer a header field but the first extension.
            disk.poke(104, &[0; 16]);
        }
        disk.poke(at, bytes);
        let before = disk.bytes();
        let theirs = disk.img("info -f qcow2");
        let ours = disk.qimg("info -f qcow2");
        assert_eq!(theirs.code == Some(0), accepted, "{what}: {theirs:?}");
        assert_eq!(ours.code == Some(0), accepted, "{what}: {ours:?}");
        assert!(disk.bytes() == before, "{what}: looking has changed the file");
    }
}

#[test]
fn unknown_autoclear_bits_stay_for_readers_and_go_with_the_first_writer() {
    for hand in [Disk::try_theirs, Disk::try_ours] {
        let disk = Disk::new("1M");
        disk.poke_word(88, 1 << 9);
        disk.img("info").success();
        hand(&disk, &["-r"], &["read 0 64k"]).success();
        assert_eq!(disk.word(88), 1 << 9, "a reader keeps it");
        hand(&disk, &[], &["length"]).success();
        assert_eq!(disk.word(88), 0, "a writer cannot keep what it promises");
    }
}
