//! Traps of images with subclusters: entries that contradict themselves, bits that mean nothing
//! here, tables that map half as much.

use std::sync::Arc;

use block_io::MemoryStorage;
use cow_engine::{Backing, Error, Image, ZeroMode};

use crate::images::{self, poke, read, word};
use crate::kinds::{Kind, Media};
use crate::power::assert_closed;
use crate::test_backing::TestBacking;

const CLUSTER: u64 = 65536;
/// A subcluster.
const SUB: u64 = CLUSTER / 32;
const ALL: usize = CLUSTER as usize;
const CORRUPT: u64 = 2;

fn kind() -> Kind {
    Kind::extended(1 << 20, 16)
}

/// The second cluster is written in its first half; the first and third as a whole.
fn written() -> Media<MemoryStorage> {
    let media = kind().memory();
    let image = kind().open(&media, None);
    image.write_at(0, &[1; ALL + ALL / 2]).unwrap();
    image.write_at(2 * CLUSTER, &[3; ALL]).unwrap();
    image.close().unwrap();
    media
}

/// Where the entry of a cluster lies.
fn entry_at(media: &Media<MemoryStorage>, cluster: u64) -> u64 {
    (word(&*media.image, word(&*media.image, 40)) & 0x00ff_ffff_ffff_fe00) + cluster * 16
}

fn entry_error(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Entry(_)), "{error}");
}

/// Every access to the second cluster is refused, whichever subcluster it is about; the others go
/// on being read, and the image says that it is damaged.
fn assert_spoiled(damage: impl Fn(&Media<MemoryStorage>)) {
    type Access = fn(&Image) -> Result<(), Error>;
    let accesses: [Access; 7] = [
        |image| image.read_at(CLUSTER, &mut [0; 512]),
        |image| image.read_at(2 * CLUSTER - 512, &mut [0; 512]),
        |image| image.write_at(CLUSTER + 5 * SUB, &[9; 512]),
        |image| image.write_at(CLUSTER, &[9; ALL]),
        |image| image.write_zeroes_at(CLUSTER + SUB, SUB, ZeroMode::Keep),
        |image| image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Unmap),
        |image| image.discard_at(CLUSTER, CLUSTER),
    ];
    for access in accesses {
        let media = written();
        damage(&media);
        let before = images::bytes(&*media.image);
        let reader = media.open_read_only(None).unwrap();
        entry_error(reader.read_at(CLUSTER, &mut [0; 512]));
        drop(reader);
        assert!(images::bytes(&*media.image) == before, "trap 87: a reader has written");
        let image = kind().open(&media, None);
        entry_error(access(&image));
        assert_eq!(read(&image, 0, ALL), vec![1; ALL]);
        assert_eq!(read(&image, 2 * CLUSTER, ALL), vec![3; ALL]);
        assert!(image.write_at(0, &[9; 512]).is_err(), "nothing is written after damage");
        image.close().unwrap();
        let mut after = images::bytes(&*media.image);
        assert_eq!(word(&*media.image, 72) & CORRUPT, CORRUPT);
        after[79] &= !(CORRUPT as u8);
        assert!(after == before, "more than the mark has changed");
        assert!(matches!(kind().try_open(&media, None), Err(Error::MarkedCorrupt)));
    }
}

#[test]
fn trap_24_allocated_and_zero_spoils_the_whole_entry() {
    assert_spoiled(|media| {
        poke(&*media.image, entry_at(media, 1) + 8, |bitmap| bitmap | 1 << 35);
    });
}

#[test]
fn trap_25_allocated_without_a_cluster_spoils_the_whole_entry() {
    assert_spoiled(|media| {
        poke(&*media.image, entry_at(media, 1), |_| 0);
        poke(&*media.image, entry_at(media, 1) + 8, |_| 1 << 31);
    });
}

#[test]
fn trap_25_zero_bits_need_no_cluster() {
    let media = written();
    poke(&*media.image, entry_at(&media, 5) + 8, |_| 0xff << 32);
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let image = kind().open(&media, Some(backing));
    assert_eq!(read(&image, 5 * CLUSTER, 8 * SUB as usize), [0; 8 * SUB as usize]);
    assert_eq!(read(&image, 5 * CLUSTER + 8 * SUB, 512), [7; 512]);
    image.write_at(5 * CLUSTER + 7 * SUB, &[1; 512]).unwrap();
    let mut expected = vec![0; ALL];
    expected[8 * SUB as usize..].fill(7);
    expected[7 * SUB as usize..][..512].fill(1);
    assert!(read(&image, 5 * CLUSTER, ALL) == expected);
    image.close().unwrap();
    assert_closed(&images::bytes(&*media.image));
}

#[test]
fn trap_18_bit_0_means_nothing_here_and_goes_with_the_next_entry() {
    let media = written();
    poke(&*media.image, entry_at(&media, 1), |entry| entry | 1);
    poke(&*media.image, entry_at(&media, 6), |_| 1);
    let backing: Arc<dyn Backing> = Arc::new(TestBacking::new(vec![7; 1 << 20]));
    let image = kind().open(&media, Some(backing));
    assert_eq!(read(&image, CLUSTER, 512), [1; 512], "not zeros");
    assert_eq!(read(&image, 6 * CLUSTER, 512), [7; 512], "not zeros");
    image.write_at(CLUSTER + 20 * SUB, &[2; 512]).unwrap();
    image.write_at(6 * CLUSTER, &[2; 512]).unwrap();
    assert_eq!(read(&image, CLUSTER, 512), [1; 512]);
    image.close().unwrap();
    assert_closed(&images::bytes(&*media.image));
}

/// Zeroing a part keeps the descriptor, and must not turn a meaningless bit into a claim.
#[test]
fn trap_18_bit_0_and_zeros() {
    let media = written();
    poke(&*media.image, entry_at(&media, 1), |entry| entry | 1);
    poke(&*media.image, entry_at(&media, 6), |_| 1);
    let image = kind().open(&media, None);
    image.write_zeroes_at(CLUSTER + SUB, SUB, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(6 * CLUSTER + SUB, SUB, ZeroMode::Keep).unwrap();
    image.write_zeroes_at(2 * CLUSTER, CLUSTER, ZeroMode::Keep).unwrap();
    assert_eq!(read(&image, CLUSTER, 512), [1; 512]);
    image.close().unwrap();
    assert!(crate::census::take(&images::bytes(&*media.image)).losses.is_empty());
    let image = kind().open(&media, None);
    assert_eq!(read(&image, CLUSTER + SUB, SUB as usize), [0; SUB as usize]);
    assert_eq!(read(&image, CLUSTER + 2 * SUB, 512), [1; 512]);
}

#[test]
fn trap_20_a_zero_cluster_is_filled_subcluster_by_subcluster() {
    let media = kind().memory();
    let image = kind().open(&media, None);
    image.write_at(0, &[1; ALL]).unwrap();
    image.write_zeroes_at(0, CLUSTER, ZeroMode::Keep).unwrap();
    image.flush().unwrap();
    assert_eq!(word(&*media.image, entry_at(&media, 0)), 0x8000_0000_0005_0000);
    assert_eq!(word(&*media.image, entry_at(&media, 0) + 8), 0xffff_ffff_0000_0000);
    image.write_at(3 * SUB + 100, &[2; 100]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*media.image, entry_at(&media, 0)), 0x8000_0000_0005_0000);
    assert_eq!(word(&*media.image, entry_at(&media, 0) + 8), 0xffff_fff7_0000_0008);
    let mut expected = vec![0; ALL];
    expected[3 * SUB as usize + 100..][..100].fill(2);
    assert!(read(&kind().open(&media, None), 0, ALL) == expected, "old bytes came back");
}

#[test]
fn trap_26_a_table_maps_half_as_much() {
    for (cluster_bits, l1_entries) in [(16, 4), (14, 64)] {
        let kind = Kind::extended(1 << 30, cluster_bits);
        let media = kind.memory();
        assert_eq!(word(&*media.image, 36) >> 32, l1_entries);
        let image = kind.open(&media, None);
        let table_bytes = (1 << 30) / l1_entries;
        assert_eq!(image.geometry().l2_table_guest_bytes(), table_bytes);
        // Across the border of two tables, and at the end of the last one.
        image.write_at(table_bytes - 100, &[1; 200]).unwrap();
        image.write_at((1 << 30) - 100, &[2; 100]).unwrap();
        image.close().unwrap();
        assert_closed(&images::bytes(&*media.image));
        let image = kind.open(&media, None);
        assert_eq!(read(&image, table_bytes - 100, 200), [1; 200]);
        assert_eq!(read(&image, (1 << 30) - 100, 100), [2; 100]);
        let present = (0..l1_entries)
            .filter(|index| word(&*media.image, word(&*media.image, 40) + index * 8) != 0);
        assert_eq!(present.collect::<Vec<_>>(), [0, 1, l1_entries - 1]);
    }
}

#[test]
fn trap_28_a_bitmap_beside_compressed_data_is_ignored_and_replaced() {
    let media = kind().memory();
    let image = kind().open(&media, None);
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &[4; ALL]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*media.image, entry_at(&media, 0) + 8), 0);
    poke(&*media.image, entry_at(&media, 0) + 8, |_| 0x0000_00ff_0000_0003);
    let image = kind().open(&media, None);
    assert_eq!(read(&image, 0, ALL), vec![4; ALL]);
    image.write_at(100, &[5; 100]).unwrap();
    image.close().unwrap();
    assert_eq!(word(&*media.image, entry_at(&media, 0) + 8), 0xffff_ffff);
    assert_closed(&images::bytes(&*media.image));
}
