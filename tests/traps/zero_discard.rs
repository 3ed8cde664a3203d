//! Zero writes and discards: the same entries as the real tool leaves, for every state that a
//! cluster can be in, in every dialect, with and without a backing file.

use testkit::Pattern;

use super::disk::Disk;

const CLUSTER: u64 = 65_536;

/// Clusters in different states from the first on: nothing, data, data in part, zeros, zeros that
/// keep their cluster, compressed.
const STATES: u64 = 6;

/// An image with one cluster in each state, and a short one at its end.
fn made(options: &str, base: &[u8]) -> Disk {
    let disk = Disk::over(options, base);
    disk.theirs(&[
        "write -P 1 64k 64k",
        "write -P 2 130k 3k",
        "write -z -u 192k 64k",
        "write -P 3 256k 64k",
        "write -z 256k 64k",
        "write -c -P 4 320k 64k",
        "write -P 5 384k 64k",
        "write -P 6 960k 36k",
    ]);
    disk
}

/// The entries with what matters of them: flags, whether there is a host cluster and whether it is
/// the one from before, and the bitmap.
fn entries(disk: &Disk, before: &[(u64, u64)], extended: bool) -> Vec<String> {
    (0..16)
        .map(|cluster| {
            let (entry, bitmap) = raw_entry(disk, cluster, extended);
            let offset = |entry: u64| entry & 0x00ff_ffff_ffff_fe00;
            let host = match offset(entry) {
                _ if entry >> 62 == 1 => "compressed",
                0 => "none",
                host if host == offset(before[cluster as usize].0) => "as before",
                _ => "new",
            };
            let flags = (entry >> 63, if entry >> 62 == 1 { 0 } else { entry & 1 });
            format!("{cluster}: copied, zero {flags:?} host {host} bitmap {bitmap:#x}")
        })
        .collect()
}

fn raw_entry(disk: &Disk, cluster: u64, extended: bool) -> (u64, u64) {
    let at = disk.l2_entry_at(cluster * CLUSTER);
    (disk.word(at), if extended { disk.word(at + 8) } else { 0 })
}

/// One command for each state, of the whole cluster or of a part of it.
fn commands(kind: &str, part: bool) -> Vec<String> {
    (0..STATES)
        .map(|state| match part {
            false => format!("{kind} {}k 64k", state * 64),
            true => format!("{kind} {}k 4k", state * 64 + 2),
        })
        .collect()
}

#[test]
fn zeros_and_discards_leave_the_entries_that_the_real_tool_leaves() {
    let base = Pattern::new(5).bytes(0, 996 << 10);
    for option in ["cluster_size=64k", "compat=0.10", "extended_l2=on"] {
        for backing in ["", "-F raw -b @base.raw "] {
            let image = made(&format!("-o {option} {backing}996k"), &base);
            let extended = option == "extended_l2=on";
            let before: Vec<_> = (0..16).map(|at| raw_entry(&image, at, extended)).collect();
            for kind in ["write -z", "write -z -u", "discard"] {
                for commands in [
                    commands(kind, false),
                    commands(kind, true),
                    vec![format!("{kind} 960k 36k")],
                    vec![format!("{kind} 30k 900k")],
                ] {
                    let what = format!("{commands:?} in {option} {backing}");
                    compare(&image, &commands, &before, extended, &what);
                }
            }
        }
    }
}

/// Both programs do the same to copies of an image, and leave the same behind.
#[track_caller]
fn compare(image: &Disk, commands: &[String], before: &[(u64, u64)], extended: bool, what: &str) {
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let [theirs, ours] = [Disk::theirs as fn(&Disk, &[&str]), Disk::ours].map(|hand| {
        let disk = image.copy();
        hand(&disk, &commands);
        disk
    });
    let expected = entries(&theirs, before, extended);
    assert_eq!(entries(&ours, before, extended), expected, "{what}");
    assert!(ours.content() == theirs.content(), "{what}");
    ours.assert_sound();
}

#[test]
fn who_ignores_discards_keeps_the_space_and_still_writes_zeros() {
    for hand in [Disk::try_theirs, Disk::try_ours] {
        let disk = Disk::new("1M");
        disk.theirs(&["write -P 1 0 128k"]);
        let entry = disk.l2_entry(0);
        hand(&disk, &["-d", "ignore"], &["write -z -u 0 64k", "discard 64k 64k"]).success();
        assert_eq!(disk.l2_entry(0), entry | 1, "zeros, and the cluster is kept");
        assert_eq!(disk.l2_entry(CLUSTER) & 1, 0, "the discard is ignored");
        let mut expected = vec![0; 1 << 20];
        expected[65_536..131_072].fill(1);
        disk.assert_content(&expected);
        disk.assert_sound();
    }
}
