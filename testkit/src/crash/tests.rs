//! States after a power cut are those that the model of the medium allows, and all of them.

use std::collections::BTreeSet;

use block_io::{StorageExt as _, conformance};

use super::*;

fn states(storage: &CrashStorage, plan: &CrashPlan) -> Vec<(CrashState, Vec<u8>)> {
    let mut found = Vec::new();
    let log = storage.log();
    let count =
        log.check_states(plan, |state, medium| found.push((state.clone(), medium.to_vec())));
    assert_eq!(count, found.len());
    found
}

#[test]
fn it_conforms() {
    conformance::all(CrashStorage::new);
}

#[test]
fn pending_writes_come_in_every_combination() {
    let storage = CrashStorage::on(MemoryStorage::from(&b"...."[..]));
    for (offset, letter) in [(0, b"a"), (1, b"b"), (2, b"c")] {
        storage.write_at(offset, letter).unwrap();
    }
    let found: BTreeSet<_> =
        states(&storage, &CrashPlan::default()).into_iter().map(|(_, bytes)| bytes).collect();
    let expected: BTreeSet<_> =
        ["....", "a...", ".b..", "..c.", "ab..", "a.c.", ".bc.", "abc."].map(Vec::from).into();
    assert_eq!(found, expected);
}

#[test]
fn synced_bytes_are_in_every_later_state() {
    let storage = CrashStorage::new();
    storage.write_at(0, b"first").unwrap();
    storage.sync().unwrap();
    let promised = storage.position();
    storage.write_at(0, b"other").unwrap();
    storage.write_at(5, b"!").unwrap();
    storage.sync().unwrap();
    let found = states(&storage, &CrashPlan::default());
    let cuts: Vec<_> = found.iter().map(|(state, _)| (state.durable, state.cut)).collect();
    // Writes behind the end may leave the length alone.
    let expected = [vec![(0, 1); 3], vec![(2, 4); 6], vec![(5, 5)]].concat();
    assert_eq!(cuts, expected);
    for (state, bytes) in &found {
        if state.cut >= promised {
            assert!(bytes.starts_with(b"first") || bytes.starts_with(b"other"), "{state:?}");
        }
    }
    assert_eq!(found.last().unwrap().1, b"other!");
}

#[test]
fn torn_writes_are_old_or_new_by_sector() {
    let storage = CrashStorage::on(MemoryStorage::from(&[b'.'; 2048][..]));
    // Touches four sectors, the outer ones in part.
    storage.write_at(500, &[b'x'; 1048]).unwrap();
    let kinds: BTreeSet<_> = states(&storage, &CrashPlan::default())
        .into_iter()
        .map(|(_, bytes)| {
            [499, 500, 511, 512, 1023, 1024, 1535, 1536, 1547, 1548].map(|i| bytes[i] as char)
        })
        .map(|letters| letters.iter().collect::<String>())
        .collect();
    let expected =
        ["..........", ".xxxxxxxx.", ".xxxx.....", ".....xxxx."].map(String::from).into();
    assert_eq!(kinds, expected);
    let whole = CrashPlan { tears: false, ..CrashPlan::default() };
    assert_eq!(states(&storage, &whole).len(), 2);
}

#[test]
fn scattered_tears_mix_sectors_but_never_bytes() {
    let storage = CrashStorage::on(MemoryStorage::from(&[1; 64 * 512][..]));
    storage.write_at(0, &[2; 64 * 512]).unwrap();
    let log = storage.log();
    let epoch = log.at(1);
    let state = epoch.state(vec![Fate::Torn(Tear::Scattered { seed: 9 })]);
    let bytes = epoch.materialise(&state).to_vec();
    let sectors: Vec<_> = bytes.chunks(512).collect();
    assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    let new = sectors.iter().filter(|sector| sector[0] == 2).count();
    assert!((16..=48).contains(&new), "{new} of 64 sectors are new");
}

#[test]
fn lengths_zeros_and_holes_are_pending_too() {
    let storage = CrashStorage::on(MemoryStorage::from(&[1; 8192][..]));
    storage.write_zeroes_at(8192, 10).unwrap();
    storage.punch_hole(0, 4096).unwrap();
    storage.set_len(6000).unwrap();
    storage.allocate(0, 7000).unwrap();
    let whole = CrashPlan { tears: false, ..CrashPlan::default() };
    let found = states(&storage, &whole);
    assert_eq!(found.len(), 16);
    let lens: BTreeSet<_> = found.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lens, [6000, 7000, 8192, 8202].into());
    assert_eq!(found.iter().filter(|(_, bytes)| bytes[..4096] == [0; 4096]).count(), 8);
}

#[test]
fn empty_and_refused_requests_are_not_logged() {
    let storage = CrashStorage::new();
    storage.write_at(9, &[]).unwrap();
    storage.allocate(9, 0).unwrap();
    storage.write_at(u64::MAX, b"x").unwrap_err();
    assert_eq!(storage.log().events(), []);
}

#[test]
fn a_write_behind_the_end_may_move_it_alone() {
    let storage = CrashStorage::on(MemoryStorage::from(&b"old"[..]));
    storage.write_at(2, b"new").unwrap();
    let found: BTreeSet<_> =
        states(&storage, &CrashPlan::default()).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(found, [&b"old"[..], b"olnew", b"old\0\0"].map(Vec::from).into());
    let whole = CrashPlan { tears: false, ..CrashPlan::default() };
    assert_eq!(states(&storage, &whole).len(), 2);
}

#[test]
fn several_files_have_syncs_of_their_own() {
    conformance::all(|| Arc::clone(&CrashFiles::on([MemoryStorage::new()]).files()[0]));
    let start = || MemoryStorage::from(&b"."[..]);
    let files = CrashFiles::on([start(), start()]);
    let [one, other] = files.files() else { panic!("two files") };
    one.write_at(0, b"a").unwrap();
    other.write_at(0, b"b").unwrap();
    one.sync().unwrap();
    one.write_at(0, b"c").unwrap();
    let log = files.log();
    let cuts: Vec<_> = log.cuts().map(|cut| (cut.position(), cut.pending_count())).collect();
    assert_eq!(cuts, [(2, 2), (4, 2)]);
    let last = log.cuts().last().unwrap();
    let found: BTreeSet<_> = last
        .states(&CrashPlan::default())
        .iter()
        .map(|state| last.materialise(state).iter().map(MemoryStorage::to_vec).collect::<Vec<_>>())
        .map(|files| String::from_utf8(files.concat()).unwrap())
        .collect();
    assert_eq!(found, ["a.", "c.", "ab", "cb"].map(String::from).into());
    let dropped = CutState::all(Fate::Dropped, &last);
    assert_eq!(
        last.describe(&dropped, &["one", "other"]),
        "power cut after 4 events, of which are pending\n  \
         1 other write 0x0+0x1: Dropped\n  3 one write 0x0+0x1: Dropped"
    );
}

#[test]
fn lost_syncs_make_nothing_durable() {
    let files = CrashFiles::losing([MemoryStorage::new()], |_, number| number == 1);
    let file = &files.files()[0];
    file.write_at(0, b"a").unwrap();
    file.sync().unwrap();
    assert_eq!(files.position(), 1);
    file.sync().unwrap();
    assert_eq!(files.position(), 2);
}

#[test]
fn any_cut_can_be_chosen() {
    let storage = CrashStorage::new();
    storage.write_at(0, b"a").unwrap();
    storage.sync().unwrap();
    storage.write_at(0, b"b").unwrap();
    storage.write_at(0, b"c").unwrap();
    let log = storage.log();
    let spans: Vec<_> = (0..=4).map(|cut| (log.at(cut).durable(), log.at(cut).cut())).collect();
    assert_eq!(spans, [(0, 0), (0, 1), (2, 2), (2, 3), (2, 4)]);
    let epoch = log.at(3);
    let state = epoch.state(vec![Fate::Dropped]);
    assert_eq!(epoch.describe(&state), "2 events are durable\n  2 write 0x0+0x1: Dropped");
    let mut byte = [0];
    epoch.materialise(&state).read_exact_at(0, &mut byte).unwrap();
    assert_eq!(&byte, b"a");
}

#[test]
fn too_many_states_are_sampled_the_same_way_each_time() {
    let storage = CrashStorage::new();
    for index in 0..40 {
        storage.write_at(index * 600, &[7; 600]).unwrap();
    }
    let plan = CrashPlan { states_max: 100, ..CrashPlan::default() };
    let first = states(&storage, &plan);
    assert_eq!(first.len(), 100);
    assert_eq!(first, states(&storage, &plan));
    let distinct: BTreeSet<_> = first.iter().map(|(state, _)| format!("{state:?}")).collect();
    assert_eq!(distinct.len(), 100);
    assert_ne!(first, states(&storage, &CrashPlan { seed: 2, ..plan }));
    let all = |fate| first.iter().any(|(state, _)| state.fates.iter().all(|&other| other == fate));
    assert!(all(Fate::Applied) && all(Fate::Dropped));
    // Random states tear too, and not only in the middle.
    let torn = first.iter().flat_map(|(state, _)| &state.fates);
    assert!(torn.clone().any(|fate| matches!(fate, Fate::Torn(Tear::Scattered { .. }))));
}
