//! Growth of the counts: new blocks and new tables go where nothing is, or nowhere.

use cow_engine::{Area, Error};

use crate::victim::{SHAPES, Victim, bytes, try_open};

/// An image whose snapshot keeps its L1 table at `place`, where that of the counts would grow to.
fn with_snapshot_table_at(place: u64) -> Victim {
    let shape = SHAPES[0];
    let victim = shape.victim();
    let (snapshots, old) = (victim.areas()[5].1, victim.areas()[6].1);
    let l1: Vec<u64> =
        (0..shape.cluster_bytes() / 8).map(|index| victim.word(old + index * 8)).collect();
    l1.into_iter()
        .enumerate()
        .fold(victim, |victim, (index, word)| victim.with_word(place + index as u64 * 8, word))
        .with_word(snapshots, place)
}

/// Writes until something is refused.
fn fill(victim: &Victim) -> (Error, Vec<u8>) {
    let storage = victim.storage();
    let mut image = try_open(&storage).unwrap();
    image.resize(32 << 20, cow_engine::ResizeOptions::new()).unwrap();
    let error = (0..512)
        .find_map(|number| image.write_at((number + 1) << 16, &[9; 1 << 16]).err())
        .expect("the place is reached");
    assert!(matches!(image.flush(), Err(Error::Poisoned(_))));
    drop(image);
    (error, bytes(&storage))
}

#[test]
fn a_new_block_is_not_made_over_a_structure() {
    // A block counts 256 clusters, and stands at the start of what it counts.
    let place = 256 * 512;
    let victim = with_snapshot_table_at(place);
    let (error, after) = fill(&victim);
    let expected = (Area::RefcountBlock, place, Area::SnapshotL1Table);
    let Error::Overlap { claimant, host, owner } = error else { panic!("{error}") };
    assert_eq!((claimant, host.get(), owner), expected);
    let range = place as usize..place as usize + 512;
    assert_eq!(after[range.clone()], victim.bytes[range]);
}

#[test]
fn the_table_does_not_grow_over_a_structure() {
    // One cluster of table leads to 64 blocks, each for 256 clusters of 512 bytes.
    let place = 64 * 256 * 512;
    let victim = with_snapshot_table_at(place);
    let (error, after) = fill(&victim);
    let Error::Overlap { claimant, host, owner } = error else { panic!("{error}") };
    assert_eq!(owner, Area::SnapshotL1Table);
    assert!([Area::RefcountBlock, Area::RefcountTable].contains(&claimant), "{claimant:?}");
    assert!(host.get() >= place - 512, "{host}");
    let range = place as usize..place as usize + 512;
    assert_eq!(after[range.clone()], victim.bytes[range]);
}
