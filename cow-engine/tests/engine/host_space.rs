//! Host space that is given back: when the last reference goes, after it is safe, and not before.

use block_io::Storage;
use cow_engine::ZeroMode;

use crate::images::{self, bytes, read};
use crate::kinds::Kind;
use crate::power::assert_closed;

const CLUSTER: u64 = 65536;

#[test]
fn blobs_that_share_a_cluster_and_go_together_give_it_back() {
    let storage = images::memory(1 << 20, 16);
    let image = images::open(&storage);
    let mut compressor = image.compressor().unwrap();
    for cluster in 0..4 {
        let bytes = vec![cluster as u8 + 1; CLUSTER as usize];
        image.write_compressed_at(&mut compressor, cluster * CLUSTER, &bytes).unwrap();
    }
    image.flush().unwrap();
    assert_eq!(image.explain(0).unwrap().refcount, Some(4));
    let full = storage.allocated_bytes().unwrap();
    image.discard_at(0, 4 * CLUSTER).unwrap();
    assert_eq!(storage.allocated_bytes().unwrap(), full, "not before it is safe");
    image.flush().unwrap();
    assert!(storage.allocated_bytes().unwrap() < full, "the hole was never punched");
    image.close().unwrap();
    assert_closed(&bytes(&*storage));
}

#[test]
fn a_cluster_that_still_holds_a_blob_is_kept() {
    let storage = images::memory(1 << 20, 16);
    let image = images::open(&storage);
    let mut compressor = image.compressor().unwrap();
    for cluster in 0..3 {
        let bytes = vec![cluster as u8 + 1; CLUSTER as usize];
        image.write_compressed_at(&mut compressor, cluster * CLUSTER, &bytes).unwrap();
    }
    image.flush().unwrap();
    image.discard_at(0, CLUSTER).unwrap();
    // Overwritten, not discarded: its part is not punched, and neither is what is left.
    image.write_at(CLUSTER, &[9; CLUSTER as usize]).unwrap();
    image.flush().unwrap();
    assert_eq!(read(&image, 2 * CLUSTER, 512), [3; 512]);
    image.close().unwrap();
    assert_eq!(read(&images::open(&storage), 2 * CLUSTER, 512), [3; 512]);
    assert_closed(&bytes(&*storage));
}

/// Parts of a cluster keep its space; all of it gives the space back, whatever the bitmap says.
#[test]
fn subclusters_keep_the_space_of_their_cluster() {
    for kind in [Kind::extended(1 << 20, 16), Kind::extended(1 << 20, 16).lazy()] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        image.write_at(0, &[1; 3 * CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        let full = media.image.allocated_bytes().unwrap();
        image.write_zeroes_at(0, CLUSTER - 2048, ZeroMode::Unmap).unwrap();
        image.discard_at(CLUSTER, CLUSTER - 2048).unwrap();
        image.flush().unwrap();
        assert_eq!(media.image.allocated_bytes().unwrap(), full);
        assert_eq!(read(&image, CLUSTER, 512), [1; 512], "a part is not discarded");
        image.discard_at(0, CLUSTER).unwrap();
        image.flush().unwrap();
        assert_eq!(media.image.allocated_bytes().unwrap(), full - CLUSTER);
        image.close().unwrap();
        assert_closed(&bytes(&*media.image));
    }
}

/// With a reference count that waits for the end the space comes back at once all the same, and is
/// used again in the same session.
#[test]
fn lazy_counts_do_not_keep_space() {
    let kind = Kind::standard(4 << 20, 16).lazy();
    let media = kind.memory();
    let image = kind.open(&media, None);
    for round in 0..8 {
        image.write_at(0, &[round; 8 * CLUSTER as usize]).unwrap();
        image.flush().unwrap();
        image.discard_at(0, 8 * CLUSTER).unwrap();
        image.flush().unwrap();
    }
    assert!(media.image.len().unwrap() < 24 * CLUSTER, "each round took new clusters");
    assert!(media.image.allocated_bytes().unwrap() < 8 * CLUSTER);
    image.close().unwrap();
    assert_closed(&bytes(&*media.image));
}
