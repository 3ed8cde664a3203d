//! Subclusters: every combination of descriptor and bitmap bits, the illegal ones included.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use cluster_map::{
    Dialect, Fault, Mapping, SubclusterType, Subclusters, written_bitmap, zeroed_bitmap,
};
use qcow2_format::{
    ClusterBits, Geometry, GuestOffset, HostOffset, L2Bitmap, L2Entry, L2Layout, RefcountOrder,
};

fn dialect() -> Dialect {
    let bits = ClusterBits::new(14).unwrap();
    Dialect::version_3(Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Extended).unwrap())
}

fn classify(entry: u64, bitmap: L2Bitmap) -> Result<Subclusters, Fault> {
    let mapping = Mapping::extended(L2Entry::from_bits(entry), bitmap);
    Subclusters::classify(dialect(), GuestOffset::ZERO, mapping).map_err(|error| error.fault)
}

const HOST: u64 = 0x5_0000;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// The table of the format, one subcluster at a time, for each index.
#[test]
fn every_combination_of_the_two_bits_is_told_apart() {
    for index in 0..32 {
        let bit = 1 << index;
        let host = HostOffset::new(HOST + u64::from(index) * 512);
        let kind = |entry, allocated, zero| {
            classify(entry, L2Bitmap::from_parts(allocated, zero)).map(|all| all.kind(index))
        };
        for copied in [0, COPIED] {
            let at = HOST | copied;
            assert_eq!(kind(at, 0, 0), Ok(SubclusterType::UnallocatedAllocated { host }));
            assert_eq!(kind(at, bit, 0), Ok(SubclusterType::Normal { host }));
            assert_eq!(kind(at, 0, bit), Ok(SubclusterType::ZeroAllocated { host }));
            assert_eq!(kind(at, bit, bit), Err(Fault::AllocatedAndZero));
            assert_eq!(kind(copied, 0, 0), Ok(SubclusterType::UnallocatedPlain));
            assert_eq!(kind(copied, 0, bit), Ok(SubclusterType::ZeroPlain));
            assert_eq!(kind(copied, bit, 0), Err(Fault::AllocatedNowhere));
            assert_eq!(kind(copied, bit, bit), Err(Fault::AllocatedNowhere));
        }
    }
}

#[test]
fn one_illegal_subcluster_spoils_the_whole_entry() {
    let bitmap = L2Bitmap::from_bits(0x8000_0000_8000_0001);
    assert_eq!(classify(HOST | COPIED, bitmap), Err(Fault::AllocatedAndZero));
    assert_eq!(classify(0, L2Bitmap::from_bits(1)), Err(Fault::AllocatedNowhere));
}

#[test]
fn bit_0_of_the_descriptor_has_no_meaning() {
    let with = classify(HOST | COPIED | 1, L2Bitmap::ALL_ALLOCATED).unwrap();
    let without = classify(HOST | COPIED, L2Bitmap::ALL_ALLOCATED).unwrap();
    assert_eq!(with, without);
    // Compressed clusters begin at any byte.
    let odd = classify(COMPRESSED | 0x5_0001, L2Bitmap::EMPTY).unwrap().kind(0);
    let SubclusterType::Compressed(descriptor) = odd else { panic!("{odd:?}") };
    assert_eq!(descriptor.host_offset().get(), 0x5_0001);
    let zero_flag_alone = classify(1, L2Bitmap::EMPTY).unwrap();
    assert_eq!(zero_flag_alone.kind(0), SubclusterType::UnallocatedPlain);
}

#[test]
fn the_bitmap_of_a_compressed_cluster_is_ignored() {
    for bitmap in [L2Bitmap::EMPTY, L2Bitmap::from_bits(u64::MAX)] {
        let all = classify(COMPRESSED | 0x1234, bitmap).unwrap();
        assert!(matches!(all.kind(7), SubclusterType::Compressed(_)));
        assert_eq!(all.runs().count(), 1);
    }
}

#[test]
fn preallocated_clusters_stay_transparent() {
    let all = classify(HOST | COPIED, L2Bitmap::EMPTY).unwrap();
    let run = all.run_from(0);
    assert_eq!((run.first, run.count), (0, 32));
    assert!(matches!(run.kind, SubclusterType::UnallocatedAllocated { .. }));
}

#[test]
fn runs_cover_the_cluster_without_gaps_for_any_legal_bitmap() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let allocated = (state >> 32) as u32;
        let zero = (state as u32) & !allocated;
        let all = classify(HOST | COPIED, L2Bitmap::from_parts(allocated, zero)).unwrap();
        let mut next = 0;
        for run in all.runs() {
            assert_eq!(run.first, next, "no gap, no overlap");
            assert!(run.count > 0);
            for index in run.first..run.first + run.count {
                assert!(all.kind(index).is_like(run.kind));
            }
            next = run.first + run.count;
            if next < 32 {
                assert!(!all.kind(next).is_like(run.kind), "a run is as long as it can be");
            }
        }
        assert_eq!(next, 32);
    }
}

#[test]
fn writing_and_zeroing_change_only_their_subclusters() {
    let start = L2Bitmap::from_parts(0x0000_00f0, 0x0000_ff00);
    let written = written_bitmap(start, 4..10);
    assert_eq!(written, L2Bitmap::from_parts(0x0000_03f0, 0x0000_fc00));
    let zeroed = zeroed_bitmap(start, 4..10);
    assert_eq!(zeroed, L2Bitmap::from_parts(0, 0x0000_fff0));
    assert_eq!(written_bitmap(L2Bitmap::ALL_ZERO, 0..32), L2Bitmap::ALL_ALLOCATED);
    assert_eq!(zeroed_bitmap(L2Bitmap::ALL_ALLOCATED, 0..32), L2Bitmap::ALL_ZERO);
    assert_eq!(written_bitmap(start, 5..5), start);
}
