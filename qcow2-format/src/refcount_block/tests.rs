//! Tests of the refcount block.

use proptest::prelude::*;

use super::*;

fn order(order: u32) -> RefcountOrder {
    RefcountOrder::new(order).unwrap()
}

fn seven_ones(width: u32) -> Vec<u8> {
    let mut block = RefcountBlock::zeroed(order(width), 512);
    for index in 0..7 {
        block.set(index, 1).unwrap();
    }
    let used = 7_usize.div_ceil(8 >> width.min(3)) << width.saturating_sub(3);
    assert!(block.as_bytes()[used..].iter().all(|&byte| byte == 0));
    block.as_bytes()[..used].to_vec()
}

#[test]
fn narrow_counts_are_packed_from_the_least_significant_bits() {
    assert_eq!(seven_ones(0), [0x7f]);
    assert_eq!(seven_ones(1), [0x55, 0x15]);
    assert_eq!(seven_ones(2), [0x11, 0x11, 0x11, 0x01]);
    assert_eq!(seven_ones(3), [1; 7]);
}

#[test]
fn wide_counts_are_big_endian() {
    assert_eq!(seven_ones(4)[..4], [0, 1, 0, 1]);
    assert_eq!(seven_ones(5)[..4], [0, 0, 0, 1]);
    assert_eq!(seven_ones(6)[..8], [0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_count_beyond_the_width_is_refused_and_nothing_changes() {
    for width in 0..6 {
        let mut block = RefcountBlock::zeroed(order(width), 512);
        let max = order(width).max_count();
        block.set(3, max).unwrap();
        assert_eq!(block.set(3, max + 1), Err(RefcountOverflow { count: max + 1, max }));
        assert_eq!(block.get(3), max);
    }
    let error = RefcountBlock::zeroed(order(1), 512).set(0, 4).unwrap_err();
    insta::assert_snapshot!(error, @"refcount 4 does not fit, the largest is 3");
}

#[test]
fn counts_per_block_follow_the_width() {
    let counts: Vec<usize> =
        (0..=6).map(|width| RefcountBlock::zeroed(order(width), 512).count()).collect();
    assert_eq!(counts, [4096, 2048, 1024, 512, 256, 128, 64]);
}

#[test]
fn the_first_free_count_is_found() {
    let mut block = RefcountBlock::zeroed(order(4), 512);
    assert!(block.is_empty());
    block.set(0, 1).unwrap();
    block.set(2, 9).unwrap();
    assert_eq!(block.first_free(0), Some(1));
    assert_eq!(block.first_free(2), Some(3));
    assert_eq!(block.first_free(256), None);
    assert!(!block.is_empty());
    assert_eq!(block.get(256), 0, "beyond the end");
}

proptest! {
    #[test]
    fn setting_one_count_leaves_the_others(
        width in 0_u32..=6,
        bytes in proptest::collection::vec(any::<u8>(), 512),
        index in any::<proptest::sample::Index>(),
        count in any::<u64>(),
    ) {
        let before = RefcountBlock::from_bytes(order(width), bytes);
        let index = index.index(before.count());
        let count = count & order(width).max_count();
        let mut after = before.clone();
        after.set(index, count).unwrap();
        for other in 0..before.count() {
            let expected = if other == index { count } else { before.get(other) };
            prop_assert_eq!(after.get(other), expected);
        }
        after.set(index, before.get(index)).unwrap();
        prop_assert_eq!(after, before);
    }
}
