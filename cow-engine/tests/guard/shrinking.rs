//! Cutting the file: never in front of a structure.

use cow_engine::{Area, Error, ResizeOptions};

use crate::victim::{SHAPES, bytes, try_open};

#[test]
fn the_file_is_not_cut_in_front_of_a_structure() {
    for shape in SHAPES.into_iter().filter(|shape| !shape.is_version_2()) {
        let victim = shape.victim();
        let cluster = shape.cluster_bytes();
        // The snapshot's L1 table moves to the end of the file, where the counts call it free.
        let place = (victim.bytes.len() as u64).next_multiple_of(cluster) + cluster;
        let (snapshots, old) = (victim.areas()[5].1, victim.areas()[6].1);
        let lied = (0..3)
            .fold(victim.clone(), |lied, index| {
                lied.with_word(place + index * 8, victim.word(old + index * 8))
            })
            .with_word(snapshots, place);
        let storage = lied.storage();
        let mut image = try_open(&storage).unwrap();
        let error = image.resize(cluster, ResizeOptions::new().shrink(true)).unwrap_err();
        let Error::Overlap { claimant: Area::EndOfFile, owner, .. } = error else {
            panic!("{}: {error}", shape.options);
        };
        assert_eq!(owner, Area::SnapshotL1Table);
        drop(image);
        let after = bytes(&storage);
        let range = place as usize..place as usize + 24;
        assert_eq!(after.get(range.clone()), lied.bytes.get(range), "{}", shape.options);
    }
}
