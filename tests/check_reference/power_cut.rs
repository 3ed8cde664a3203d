//! A power cut, or a failing disk, in the middle of a repair: the guest's bytes are there, and the
//! next repair brings everything in order.

use qimg::check::{CheckOptions, Outcome, Repair, check};
use qimg::format::{Header, L1Entry, L2Entry, table_words};
use qimg::io::{MemoryStorage, Storage};
use testkit::{Arrives, CallSet, CrashPlan, CrashStorage, Fault, Folder, Qemu, fail_each_call};

const CLUSTER: usize = 512;

/// 64 KiB with clusters of 512 bytes, half written.
fn made(folder: &Folder) -> Vec<u8> {
    let path = folder.path("made.qcow2");
    let image = path.to_str().unwrap();
    Qemu::img(["create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, "64k"]).success();
    let commands = ["-c", "write -P 1 0 20k", "-c", "write -P 2 40k 10k", "-c", "write -z 8k 1k"];
    Qemu::io(["-f", "qcow2"].iter().chain(&commands).chain([&image])).success();
    std::fs::read(path).unwrap()
}

/// What the guest reads; the images here have no backing file and nothing compressed.
fn guest_bytes(bytes: &[u8]) -> Vec<u8> {
    let header = Header::decode(bytes).unwrap();
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let l1 = at(header.l1_table_offset().get());
    let l1 = &bytes[l1..l1 + header.l1_entry_count() as usize * 8];
    let mut guest = Vec::new();
    for word in table_words(l1) {
        let table = L1Entry::from_bits(word.get()).table_offset();
        let table = table.map(|table| &bytes[at(table.get())..at(table.get()) + CLUSTER]);
        for entry in table_words(table.unwrap_or(&[0; CLUSTER])) {
            let entry = L2Entry::from_bits(entry.get());
            let data = at(entry.host_offset().get());
            match bytes.get(data..data + CLUSTER) {
                Some(cluster) if data != 0 && !entry.has_zero_flag() => guest.extend(cluster),
                _ => guest.extend([0; CLUSTER]),
            }
        }
    }
    guest
}

/// Images that need each kind of repair.
fn damaged(folder: &Folder) -> Vec<(&'static str, Vec<u8>)> {
    let made = made(folder);
    let header = Header::decode(&made).unwrap();
    let word = |at: usize| u64::from_be_bytes(made[at..at + 8].try_into().unwrap());
    let table = usize::try_from(header.refcount_table_offset().get()).unwrap();
    let block = usize::try_from(word(table)).unwrap();
    let l1 = usize::try_from(header.l1_table_offset().get()).unwrap();
    let l2 = usize::try_from(word(l1) & 0x00ff_ffff_ffff_fe00).unwrap();
    let poked = |pokes: &[(usize, u8)]| {
        let mut bytes = made.clone();
        for &(at, value) in pokes {
            bytes[at] = value;
        }
        bytes
    };
    vec![
        ("leaks and low counts", poked(&[(block + 21, 3), (block + 41, 2), (block + 63, 9)])),
        ("flags", poked(&[(l1, 0), (l2, 0), (l2 + 8, 0), (l2 + 16, 0)])),
        ("a stored zero", poked(&[(block + 21, 0), (block + 23, 0)])),
        ("no block", poked(&[(table + 6, 0), (table + 7, 0)])),
        ("a block that is no block", poked(&[(table + 7, 1)])),
        ("marked dirty", poked(&[(79, 1), (block + 21, 2)])),
    ]
}

fn repair(storage: &dyn Storage) -> Option<Outcome> {
    let options = CheckOptions { repair: Repair::All, ..CheckOptions::default() };
    check(storage, options).ok().map(|report| report.outcome())
}

#[test]
fn any_state_after_a_power_cut_can_be_repaired() {
    let folder = Folder::new();
    for (name, bytes) in damaged(&folder) {
        let expected = guest_bytes(&bytes);
        let storage = CrashStorage::on(MemoryStorage::from(&bytes[..]));
        assert_eq!(repair(&storage), Some(Outcome::Consistent), "{name}");
        let plan = CrashPlan { states_max: 60, ..CrashPlan::default() };
        let states = storage.log().check_states(&plan, |_, medium| {
            assert!(guest_bytes(&medium.to_vec()) == expected, "{name}: the guest lost bytes");
            assert_eq!(repair(&medium), Some(Outcome::Consistent), "{name}");
            assert!(guest_bytes(&medium.to_vec()) == expected, "{name}: after the repair");
        });
        assert!(states > 2, "{name}: {states} states");
    }
}

#[test]
fn any_failing_call_leaves_an_image_that_can_be_repaired() {
    let folder = Folder::new();
    let ways: [fn(u64) -> Fault; 4] = [
        |nth| Fault::nth(nth, CallSet::ALL),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().lasting(),
        |nth| Fault::nth(nth, CallSet::CHANGES).no_space().arriving(Arrives::AllButSector),
        |nth| Fault::nth(nth, CallSet::CHANGES_AND_SYNCS).arriving(Arrives::Everything),
    ];
    for (name, bytes) in damaged(&folder) {
        let expected = guest_bytes(&bytes);
        for way in ways {
            let runs = fail_each_call(
                || MemoryStorage::from(&bytes[..]),
                way,
                |storage| {
                    let outcome = repair(storage.as_ref());
                    assert_eq!(outcome.is_none(), storage.fired() > 0, "{name}: a failure is told");
                    storage.heal();
                    assert!(guest_bytes(&storage.inner().to_vec()) == expected, "{name}");
                    assert_eq!(repair(storage.as_ref()), Some(Outcome::Consistent), "{name}");
                },
            );
            assert!(runs > 0, "{name}: nothing could fail");
        }
    }
}
