//! L2 entries that lead to a structure instead of data.

use cow_engine::{Area, Error};
use qcow2_format::HostOffset;

use crate::victim::{
    COMPRESSED, COPIED, SHAPES, Shape, Victim, bytes, changes, first_change, try_open,
};

/// The words of an entry that leads to `host` in some way.
struct Lie {
    name: &'static str,
    words: [u64; 2],
}

fn lies(shape: Shape, host: u64) -> Vec<Lie> {
    let lie = |name, word, bitmap| Lie { name, words: [word, bitmap] };
    let mut lies = vec![lie("compressed", COMPRESSED | host, 0)];
    if host == 0 {
        // To every other kind of entry, this offset means "nowhere".
        return lies;
    }
    let (data, zeros) = (0xffff_ffff, 0xffff_ffff << 32);
    let flag = u64::from(!shape.is_extended());
    lies.push(lie("own", host | COPIED, data));
    lies.push(lie("shared", host, data));
    if !shape.is_version_2() {
        lies.push(lie("own, zeros", host | COPIED | flag, zeros));
        lies.push(lie("shared, zeros", host | flag, zeros));
    }
    lies
}

fn told(victim: &Victim, lie: &Lie) -> Victim {
    let entry = victim.entry();
    let told = victim.clone().with_word(entry, lie.words[0]);
    if victim.shape.is_extended() { told.with_word(entry + 8, lie.words[1]) } else { told }
}

/// Whether nothing has to change for this, so that it need not be refused either.
fn is_harmless(lie: &str, change: &str) -> bool {
    lie.contains("zeros") && change.starts_with("zero") && change != "zero and unmap"
}

#[test]
fn trap_86_no_change_through_an_entry_that_leads_to_a_structure() {
    for shape in SHAPES {
        let victim = shape.victim();
        for (area, host) in victim.areas() {
            for lie in lies(shape, host) {
                let lied = told(&victim, &lie);
                for change in changes() {
                    let what =
                        format!("{}: {} in {} at {area:?}", shape.options, change.name, lie.name);
                    let storage = lied.storage();
                    let image = try_open(&storage).unwrap();
                    let result = (change.apply)(&image, 0);
                    assert_refused(&result, &lie, change.name, area, host, &what);
                    image.close().unwrap();
                    let after = bytes(&storage);
                    assert_eq!(first_change(&lied.bytes, &after), None, "{what}");
                    let marked = after[79] & 2 != 0 && !shape.is_version_2();
                    let is_damage = matches!(result, Err(Error::Overlap { .. }));
                    assert_eq!(marked, is_damage && !shape.is_version_2(), "{what}");
                }
            }
        }
    }
}

#[track_caller]
fn assert_refused(
    result: &Result<(), Error>,
    lie: &Lie,
    change: &str,
    area: Area,
    host: u64,
    what: &str,
) {
    match result {
        Err(Error::Overlap { claimant: Area::Data, host: found, owner }) => {
            assert_eq!((*found, *owner), (HostOffset::new(host), area), "{what}");
        }
        // Refused already because the entry leads anywhere.
        Err(Error::Allocated { .. }) => assert_eq!(change, "compress", "{what}"),
        Ok(()) => assert!(is_harmless(lie.name, change), "{what}"),
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn entries_of_a_shared_table() {
    // The table is copied before anything else is looked at; that copy is the image's own, and
    // everything that was there before stays.
    for shape in SHAPES {
        let victim = shape.victim();
        let shared = victim.areas()[8].1;
        for (area, host) in victim.areas() {
            for lie in lies(shape, host) {
                let lied = victim.clone().with_word(shared, lie.words[0]);
                for change in changes() {
                    let what =
                        format!("{}: {} in {} at {area:?}", shape.options, change.name, lie.name);
                    let storage = lied.storage();
                    let image = try_open(&storage).unwrap();
                    let result = (change.apply)(&image, shape.covered());
                    if !shape.is_extended() {
                        assert_refused(&result, &lie, change.name, area, host, &what);
                    }
                    drop(image);
                    let after = bytes(&storage);
                    for (area, host) in victim.areas() {
                        // What the image may change: its own tables and counts.
                        let own = [Area::Header, Area::L1Table, Area::RefcountTable];
                        let own = own.contains(&area) || area == Area::RefcountBlock;
                        let range = host as usize..(host + shape.cluster_bytes()) as usize;
                        let (old, new) = (lied.bytes.get(range.clone()), after.get(range));
                        assert!(own || old == new, "{what}: {area:?} has changed");
                    }
                }
            }
        }
    }
}
