//! Counts that call a structure free.

use cow_engine::{Area, Error, Image};

use crate::victim::{SHAPES, Shape, bytes, first_change, try_open};

type Allocate = fn(&Image, Shape) -> Result<(), Error>;

/// Everything that makes the image take a cluster into use.
const ALLOCATIONS: [(&str, Allocate); 6] = [
    ("data", |image, shape| image.write_at(2 * shape.cluster_bytes(), &[9; 512])),
    ("a copy of shared data", |image, shape| image.write_at(shape.cluster_bytes(), &[9; 512])),
    ("a table", |image, shape| image.write_at(2 * shape.covered(), &[9; 512])),
    ("a copy of a shared table", |image, shape| {
        image.discard_at(shape.covered(), shape.cluster_bytes())
    }),
    ("a compressed cluster", |image, shape| {
        let mut compressor = image.compressor()?;
        let cluster = vec![9; shape.cluster_bytes() as usize];
        image.write_compressed_at(&mut compressor, 2 * shape.cluster_bytes(), &cluster)
    }),
    ("data ahead", |image, shape| {
        image.begin_write(2 * shape.cluster_bytes(), 2 * shape.cluster_bytes()).map(drop)
    }),
];

#[test]
fn structures_that_the_counts_call_free_are_not_handed_out() {
    for shape in SHAPES {
        let victim = shape.victim().without_free_clusters();
        for (area, host) in victim.areas().into_iter().filter(|(area, _)| *area != Area::Header) {
            let lied = victim.clone().with_count(host / shape.cluster_bytes(), 0);
            for (name, allocate) in ALLOCATIONS {
                let what = format!("{}: {name} at {area:?}", shape.options);
                let storage = lied.storage();
                let image = try_open(&storage).unwrap();
                let error = allocate(&image, shape).unwrap_err();
                let Error::Overlap { claimant: Area::Data, host: found, owner } = error else {
                    panic!("{what}: {error}");
                };
                assert_eq!((found.get(), owner), (host, area), "{what}");
                // Counts that are wrong about one cluster may be wrong about all.
                assert!(matches!(image.write_at(0, &[9]), Err(Error::Poisoned(_))), "{what}");
                assert!(matches!(image.flush(), Err(Error::Poisoned(_))), "{what}");
                drop(image);
                assert_eq!(first_change(&lied.bytes, &bytes(&storage)), None, "{what}");
            }
        }
    }
}

#[test]
fn the_header_is_never_free() {
    for shape in SHAPES {
        let victim = shape.victim().without_free_clusters().with_count(0, 0);
        let storage = victim.storage();
        let image = try_open(&storage).unwrap();
        for (_, allocate) in ALLOCATIONS {
            // The second allocation of the same cluster as compressed is refused as such.
            let result = allocate(&image, shape);
            assert!(matches!(result, Ok(()) | Err(Error::Allocated { .. })), "{result:?}");
        }
        image.close().unwrap();
        assert_eq!(bytes(&storage)[..72], victim.bytes[..72], "{}", shape.options);
    }
}

#[test]
fn a_cluster_that_was_counted_once_for_two_is_not_taken_from_its_new_owner() {
    for shape in SHAPES {
        let cluster = shape.cluster_bytes();
        let victim = shape.victim().without_free_clusters();
        let entry = victim.entry();
        let host = victim.word(entry) & 0x00ff_ffff_ffff_fe00;
        // Two guest clusters lead to one host cluster, which is counted once.
        let lied = (0..shape.entry_bytes() / 8).fold(victim.clone(), |lied, word| {
            let from = victim.word(entry + word * 8);
            lied.with_word(entry + 2 * shape.entry_bytes() + word * 8, from)
        });
        let storage = lied.storage();
        let image = try_open(&storage).unwrap();
        // Readers keep what they may be reading from being counted down, one flush each.
        let reader = image.begin_read(0, 512).unwrap();
        image.discard_at(0, cluster).unwrap();
        image.flush().unwrap();
        image.discard_at(2 * cluster, cluster).unwrap();
        let later_reader = image.begin_read(0, 512).unwrap();
        drop(reader);
        image.flush().unwrap();
        // Now it is free, and becomes a table.
        image.write_at(2 * shape.covered(), &[9; 512]).unwrap();
        drop(later_reader);
        let error = image.flush().unwrap_err();
        let Error::Overlap { claimant: Area::Data, host: found, owner } = error else {
            panic!("{}: {error}", shape.options);
        };
        assert_eq!((found.get(), owner), (host, Area::L2Table), "{}", shape.options);
        drop(image);
        let table = &bytes(&storage)[host as usize..(host + cluster) as usize];
        assert!(table.iter().any(|&byte| byte != 0), "{}: the table is gone", shape.options);
    }
}
