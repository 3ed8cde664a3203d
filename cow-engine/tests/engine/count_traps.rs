//! Traps of counts: widths below a byte, ceilings that packing meets, cursors and clusters that
//! outlive what they belong to.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Error, Image, OpenOptions, ZeroMode};
use qcow2_format::{CompressionType, Version};

use crate::census;
use crate::images::{self, bytes, poke, read, word};
use crate::kinds::{Data, Kind};
use crate::power::assert_closed;

const CLUSTER: u64 = 65536;
const ALL: usize = CLUSTER as usize;

#[test]
fn trap_42_counts_below_a_byte_begin_with_the_lowest_bits() {
    let expected: [(u32, &[u8]); 7] = [
        (0, &[0x7f, 0]),
        (1, &[0x55, 0x15, 0]),
        (2, &[0x11, 0x11, 0x11, 0x01, 0]),
        (3, &[1, 1, 1, 1, 1, 1, 1, 0]),
        (4, &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0]),
        (5, &[0, 0, 0, 1, 0, 0, 0, 1]),
        (6, &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    for (order, counts) in expected {
        let kind = Kind::standard(1 << 20, 16).width(order);
        let media = kind.memory();
        let image = kind.open(&media, None);
        // Header, table, block, L1, L2, two data clusters.
        image.write_at(0, &[1; 2 * ALL]).unwrap();
        image.close().unwrap();
        let found = bytes(&*media.image);
        assert_eq!(found[0x2_0000..][..counts.len()], *counts, "order {order}");
        assert_closed(&found);
        images::check_clean(&*media.image);
    }
}

#[test]
fn trap_40_blobs_share_a_cluster_as_far_as_it_can_be_counted() {
    for (order, shared) in [(0, 1), (1, 3), (2, 15), (3, 20), (6, 20)] {
        let kind = Kind::standard(4 << 20, 16).width(order);
        let media = kind.memory();
        let image = kind.open(&media, None);
        let mut compressor = image.compressor().unwrap();
        for number in 0..20 {
            let data = vec![number as u8 + 1; ALL];
            image.write_compressed_at(&mut compressor, number * CLUSTER, &data).unwrap();
        }
        image.flush().unwrap();
        assert_eq!(image.explain(0).unwrap().refcount, Some(shared), "order {order}");
        // Every one of them can go alone.
        for number in (0..20).step_by(3) {
            image.write_at(number * CLUSTER, &[0xee; ALL]).unwrap();
        }
        image.close().unwrap();
        assert_closed(&bytes(&*media.image));
        images::check_clean(&*media.image);
        let image = kind.open(&media, None);
        for number in 0..20 {
            let byte = if number % 3 == 0 { 0xee } else { number as u8 + 1 };
            assert_eq!(read(&image, number * CLUSTER, 512), [byte; 512]);
        }
    }
}

/// A blob that does not fit into the rest of its cluster straddles, if the count of the first one
/// can still rise; otherwise it begins in the new one.
#[test]
fn trap_40_straddling_blobs_at_the_ceiling() {
    for order in [0, 1, 2] {
        let kind = Kind::standard(1 << 20, 12).width(order);
        let media = kind.memory();
        let image = kind.open(&media, None);
        for number in 0..40_u64 {
            // A blob is what its writer says; three fourths of a cluster each.
            image.write_blob(number * 4096, &vec![number as u8; 3000]).unwrap();
        }
        image.flush().unwrap();
        census::assert_clean(&bytes(&*media.image));
        for number in (0..40_u64).step_by(2) {
            image.discard_at(number * 4096, 4096).unwrap();
        }
        image.close().unwrap();
        assert_closed(&bytes(&*media.image));
        images::check_clean(&*media.image);
    }
}

#[test]
fn trap_95_the_packing_cursor_does_not_outlive_its_cluster() {
    let standard = Kind::standard(1 << 20, 16);
    let zstd = Kind { compression: CompressionType::Zstd, ..standard };
    for kind in [standard, zstd, standard.lazy(), standard.width(0), Kind::extended(1 << 20, 16)] {
        for flush in [false, true] {
            let media = kind.memory();
            let image = kind.open(&media, None);
            let mut compressor = image.compressor().unwrap();
            image.write_compressed_at(&mut compressor, 0, &[1; ALL]).unwrap();
            image.write_at(0, &[2; ALL]).unwrap();
            if flush {
                image.flush().unwrap();
            }
            image.write_at(CLUSTER, &[3; ALL]).unwrap();
            image.write_compressed_at(&mut compressor, 2 * CLUSTER, &[4; ALL]).unwrap();
            image.close().unwrap();
            let image = kind.open(&media, None);
            for (cluster, byte) in [(0, 2), (1, 3), (2, 4)] {
                assert_eq!(read(&image, cluster * CLUSTER, ALL), vec![byte; ALL], "{kind:?}");
            }
            assert_closed(&bytes(&*media.image));
        }
    }
}

/// Freed in memory is not free: the disk still points there until the flush.
#[test]
fn trap_97_a_freed_cluster_is_not_handed_out_before_the_disk_knows() {
    for kind in [
        Kind::standard(4 << 20, 16),
        Kind::standard(4 << 20, 16).lazy(),
        Kind::extended(4 << 20, 16),
    ] {
        let media = kind.memory();
        let image = kind.open(&media, None);
        let mut compressor = image.compressor().unwrap();
        image.write_compressed_at(&mut compressor, 0, &[1; ALL]).unwrap();
        image.write_at(CLUSTER, &[2; ALL]).unwrap();
        image.flush().unwrap();
        let len = media.image.len().unwrap();
        image.write_at(0, &[3; ALL]).unwrap();
        image.discard_at(CLUSTER, CLUSTER).unwrap();
        image.write_at(5 * CLUSTER, &[4; 2 * ALL]).unwrap();
        image.write_compressed_at(&mut compressor, 9 * CLUSTER, &[5; ALL]).unwrap();
        // What is on the disk right now shows what was flushed.
        let disk = media.open_read_only(None).unwrap();
        assert_eq!(read(&disk, 0, ALL), vec![1; ALL], "{kind:?}");
        assert_eq!(read(&disk, CLUSTER, ALL), vec![2; ALL], "{kind:?}");
        drop(disk);
        assert!(media.image.len().unwrap() > len, "new clusters were taken");
        image.close().unwrap();
        assert_closed(&bytes(&*media.image));
    }
}

/// Data in a cluster of metadata: refused before a byte is written, in every kind of image that
/// has data and metadata in one file.
#[test]
fn trap_86_no_data_over_metadata_whatever_the_kind() {
    let standard = Kind::standard(1 << 20, 16);
    for kind in [
        standard.lazy(),
        standard.width(0),
        Kind::extended(1 << 20, 16),
        Kind::extended(1 << 20, 16).lazy(),
    ] {
        // Header, refcount table, refcount block, L1 table, the L2 table itself.
        for target in 0..5 {
            let media = kind.memory();
            let image = kind.open(&media, None);
            image.write_at(0, &[1; 2 * ALL]).unwrap();
            image.close().unwrap();
            let words = if kind.extended_l2 { 2 } else { 1 };
            let table = word(&*media.image, word(&*media.image, 40)) & 0x00ff_ffff_ffff_fe00;
            poke(&*media.image, table + words * 8, |_| 1 << 63 | target << 16);
            let before = bytes(&*media.image);
            let image = kind.open(&media, None);
            let result = image.write_at(CLUSTER, &[2; ALL]);
            if target == 0 {
                // Offset 0 is no cluster: with a bitmap that says data it is damage.
                assert_eq!(result.is_err(), kind.extended_l2);
                continue;
            }
            assert!(matches!(result, Err(Error::Overlap { .. })), "{kind:?} {target}: {result:?}");
            assert!(image.discard_at(0, CLUSTER).is_err());
            image.close().unwrap();
            let mut after = bytes(&*media.image);
            assert_eq!(after[79] & 2, 2, "the mark is there");
            after[79] = before[79];
            assert!(after == before, "{kind:?}: more than the mark has changed");
        }
    }
}

/// A data file has no metadata: nothing there is in the way of data.
#[test]
fn trap_86_a_data_file_has_no_metadata() {
    let kind = Kind::standard(1 << 20, 16).with_data(Data::Outside);
    let media = kind.memory();
    let image = kind.open(&media, None);
    // Guest offsets at which the image file has its header, table, block, L1 and L2 table.
    for cluster in 0..6 {
        image.write_at(cluster * CLUSTER, &[cluster as u8 + 1; ALL]).unwrap();
    }
    image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.close().unwrap();
    assert_closed(&bytes(&*media.image));
    let image = kind.open(&media, None);
    for (cluster, byte) in [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 6)] {
        assert_eq!(read(&image, cluster * CLUSTER, ALL), vec![byte; ALL]);
    }
}

/// Whether counts wait is up to the header unless the caller says otherwise; version 2 could not say
/// that they do.
#[test]
fn counts_wait_only_where_the_image_can_say_so() {
    let standard = Kind::standard(1 << 20, 16);
    let old = Kind { version: Version::V2, ..standard };
    for (kind, asked, waits) in [
        (standard, None, false),
        (standard, Some(true), true),
        (standard.lazy(), None, true),
        (standard.lazy(), Some(false), false),
        (old, None, false),
        (old, Some(true), false),
    ] {
        let media = kind.memory();
        let storage: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&media.image);
        let options = OpenOptions::new();
        let options = match asked {
            Some(lazy) => options.lazy_refcounts(lazy),
            None => options,
        };
        let image = Image::open(storage, options).unwrap();
        image.write_at(0, &[1; 512]).unwrap();
        image.flush().unwrap();
        let dirty = kind.version == Version::V3 && word(&*media.image, 72) & 1 == 1;
        assert_eq!(dirty, waits, "{kind:?}, {asked:?}");
        let counted = word(&*media.image, 0x2_0000 + 8) != 0;
        assert_eq!(counted, !waits, "{kind:?}, {asked:?}");
        image.close().unwrap();
        assert_closed(&bytes(&*media.image));
        images::check_clean(&*media.image);
    }
}

/// Two guest clusters may share a host cluster: what lies around a write over their border comes
/// twice from the same place.
#[test]
fn a_write_over_the_border_of_two_clusters_that_share_their_host_cluster() {
    let kind = Kind::standard(1 << 20, 16);
    let media = kind.memory();
    let image = kind.open(&media, None);
    let pattern: Vec<u8> = (0..ALL).map(|at| (at % 251) as u8).collect();
    image.write_at(0, &pattern).unwrap();
    image.write_at(CLUSTER, &[9; ALL]).unwrap();
    image.discard_at(CLUSTER, CLUSTER).unwrap();
    image.close().unwrap();

    let storage = &*media.image;
    let entry = images::l2_entry_at(storage, 0);
    let shared = word(storage, entry) & !(1 << 63);
    poke(storage, entry, |_| shared);
    poke(storage, entry + 8, |_| shared);
    let count = images::REFCOUNT_BLOCK * CLUSTER + shared / CLUSTER * 2;
    storage.write_at(count, &2_u16.to_be_bytes()).unwrap();
    images::check_clean(storage);

    let mut expected = [&pattern[..], &pattern].concat();
    let image = kind.open(&media, None);
    assert_eq!(read(&image, 0, 2 * ALL), expected);
    expected[ALL - 4096..ALL + 4096].fill(7);
    image.write_at(CLUSTER - 4096, &[7; 8192]).unwrap();
    assert!(read(&image, 0, 2 * ALL) == expected, "bytes around the write have changed");
    image.close().unwrap();
    assert_closed(&bytes(storage));
    images::check_clean(storage);
}
