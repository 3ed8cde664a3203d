//! Tables that lead to a structure of another kind.

use cow_engine::{Area, Class, Error};
use testkit::{Folder, Qemu};

use crate::victim::{COPIED, SHAPES, Victim, bytes, changes, first_change, try_open};

/// Words of the image that lead to a table, where they lie, and what they lead to.
fn pointers(victim: &Victim) -> Vec<(&'static str, u64, Area)> {
    let (l1, refcounts, snapshots) = (victim.word(40), victim.word(48), victim.word(64));
    let snapshot_l1 = victim.word(snapshots);
    vec![
        ("L1 entry", l1, Area::L2Table),
        ("L1 entry of nothing", l1 + 16, Area::L2Table),
        ("refcount table entry", refcounts, Area::RefcountBlock),
        ("refcount table entry of nothing", refcounts + 8, Area::RefcountBlock),
        ("L1 table in the header", 40, Area::L1Table),
        ("refcount table in the header", 48, Area::RefcountTable),
        ("snapshot table in the header", 64, Area::SnapshotTable),
        ("L1 table of the snapshot", snapshots, Area::SnapshotL1Table),
        ("L1 entry of the snapshot", snapshot_l1, Area::SnapshotL2Table),
        ("L1 entry of nothing of the snapshot", snapshot_l1 + 16, Area::SnapshotL2Table),
    ]
}

/// What only this pointer leads to: after it was bent, nothing says what lies there.
fn leads_to(claimant: Area) -> &'static [Area] {
    match claimant {
        Area::L1Table => &[Area::L2Table],
        Area::RefcountTable => &[Area::RefcountBlock],
        Area::SnapshotTable => &[Area::SnapshotL1Table, Area::SnapshotL2Table],
        Area::SnapshotL1Table => &[Area::SnapshotL2Table],
        _ => &[],
    }
}

/// Tables of snapshots may be shared, with the disk and with other snapshots.
fn may_share(claimant: Area, owner: Area) -> bool {
    let shareable = [Area::L2Table, Area::SnapshotL2Table];
    shareable.contains(&claimant)
        && shareable.contains(&owner)
        && (claimant, owner) != (Area::L2Table, Area::L2Table)
}

#[test]
fn tables_on_each_other_are_refused_before_anything_is_written() {
    for shape in SHAPES {
        let victim = shape.victim();
        for (pointer, at, claimant) in pointers(&victim) {
            for (area, host) in victim.areas() {
                let flag = victim.word(at) & COPIED;
                let lied = victim.clone().with_word(at, host | flag);
                // The truth; no table at all; a table that more than one may have; anything.
                let truth = lied.bytes == victim.bytes;
                let nothing = host == 0 && pointer.contains("entry");
                if truth
                    || nothing
                    || may_share(claimant, area)
                    || leads_to(claimant).contains(&area)
                {
                    continue;
                }
                let what = format!("{}: {pointer} to {area:?}", shape.options);
                let storage = lied.storage();
                let Err(error) = try_open(&storage) else { panic!("{what}: opened") };
                assert_eq!(error.class(), Class::Corrupt, "{what}: {error}");
                assert!(bytes(&storage) == lied.bytes, "{what}: a refused open has written");
            }
        }
    }
}

#[test]
fn a_table_that_a_snapshot_has_is_copied_whatever_its_flag_says() {
    for shape in SHAPES {
        let victim = shape.victim();
        let l1 = victim.word(40);
        let (own, of_snapshot, shared) =
            (victim.areas()[4].1, victim.areas()[7].1, victim.areas()[8].1);
        let snapshot_l1 = victim.areas()[6].1;
        let lies = [
            // The flag of the shared table; the disk's entry to the snapshot's table; and the other
            // way round.
            (victim.clone().with_word(l1 + 8, shared | COPIED), shared, shape.covered()),
            (victim.clone().with_word(l1, of_snapshot | COPIED), of_snapshot, 0),
            (victim.clone().with_word(snapshot_l1, own), own, 0),
        ];
        for (lied, table, guest) in lies {
            for change in changes() {
                let what = format!("{}: {} in the table at {table:#x}", shape.options, change.name);
                let storage = lied.storage();
                let image = try_open(&storage).unwrap();
                let result = (change.apply)(&image, guest);
                let refused = matches!(result, Err(Error::Allocated { .. }));
                assert!(result.is_ok() || refused, "{what}: {result:?}");
                image.close().unwrap();
                let range = table as usize..(table + shape.cluster_bytes()) as usize;
                assert!(bytes(&storage)[range.clone()] == lied.bytes[range], "{what}");
            }
        }
    }
}

#[test]
fn data_that_a_snapshot_has_is_copied_whatever_its_flag_says() {
    for shape in SHAPES {
        let victim = shape.victim();
        // Guest cluster 1, in the disk's own table.
        let at = victim.entry() + shape.entry_bytes();
        let host = victim.word(at);
        assert_eq!(host & COPIED, 0, "it is shared");
        let lied = victim.clone().with_word(at, host | COPIED);
        for change in changes() {
            let what = format!("{}: {}", shape.options, change.name);
            let storage = lied.storage();
            let image = try_open(&storage).unwrap();
            let result = (change.apply)(&image, shape.cluster_bytes());
            assert!(matches!(result, Ok(()) | Err(Error::Allocated { .. })), "{what}: {result:?}");
            image.close().unwrap();
            let range = host as usize..(host + shape.cluster_bytes()) as usize;
            assert!(bytes(&storage)[range] == vec![1; shape.cluster_bytes() as usize], "{what}");
        }
    }
}

#[test]
fn trap_21_flags_in_the_tables_of_snapshots_mean_nothing() {
    for shape in SHAPES {
        let victim = shape.victim();
        let areas = victim.areas();
        let (snapshot_l1, shared) = (areas[6].1, areas[8].1);
        assert_ne!(victim.word(snapshot_l1 + 8) & COPIED, 0, "stale: the table is shared");
        let storage = victim.storage();
        let image = try_open(&storage).unwrap();
        image.write_at(shape.covered(), &[9; 512]).unwrap();
        image.close().unwrap();
        let range = shared as usize..(shared + shape.cluster_bytes()) as usize;
        assert!(bytes(&storage)[range.clone()] == victim.bytes[range], "{}", shape.options);
        let folder = Folder::new();
        Qemu::check(&folder.write("image.qcow2", &bytes(&storage)));
    }
}

#[test]
fn opening_changes_nothing() {
    for shape in SHAPES {
        let victim = shape.victim();
        let storage = victim.storage();
        try_open(&storage).unwrap().close().unwrap();
        assert_eq!(first_change(&victim.bytes, &bytes(&storage)), None, "{}", shape.options);
    }
}
