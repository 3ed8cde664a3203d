//! Writes at subcluster granularity: which old bytes go with them, and what the bitmap says
//! afterwards.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use core::ops::Range;

use cluster_map::{
    ClusterWrite, CowExtent, CowSource, Dialect, Mapping, NewClusterReason, WriteDecision,
};
use qcow2_format::{
    ClusterBits, Geometry, GuestOffset, HostOffset, L2Bitmap, L2Entry, L2Layout, RefcountOrder,
};

/// Subclusters of 512 bytes.
fn dialect() -> Dialect {
    let bits = ClusterBits::new(14).unwrap();
    Dialect::version_3(Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Extended).unwrap())
}

const HOST: HostOffset = HostOffset::new(0x5_0000);
const COPIED: u64 = 1 << 63;

fn decide(entry: u64, bitmap: L2Bitmap, touched: Range<u64>) -> WriteDecision {
    let mapping = Mapping::extended(L2Entry::from_bits(entry), bitmap);
    WriteDecision::decide(dialect(), GuestOffset::ZERO, mapping, touched).unwrap()
}

fn allocates(entry: u64, bitmap: L2Bitmap, touched: Range<u64>) -> ClusterWrite {
    let decision = decide(entry, bitmap, touched);
    let WriteDecision::NewCluster(write) = decision else { unreachable!("{decision:?}") };
    write
}

const fn extent(len: u64, source: CowSource) -> CowExtent {
    CowExtent { len, source }
}

#[test]
fn an_unallocated_cluster_copies_only_to_the_borders_of_subclusters() {
    let write = allocates(0, L2Bitmap::EMPTY, 700..1800);
    assert_eq!(write.reason, NewClusterReason::Unallocated);
    assert_eq!(write.cow_start, extent(188, CowSource::Below));
    assert_eq!(write.cow_end, extent(248, CowSource::Below));
    assert_eq!(write.bitmap, L2Bitmap::from_parts(0b1110, 0));
    assert_eq!(write.place, None);
}

#[test]
fn zero_subclusters_give_zeros_and_the_others_keep_their_bits() {
    let write = allocates(0, L2Bitmap::from_parts(0, 0b1001_0010), 700..1800);
    assert_eq!(write.reason, NewClusterReason::Unallocated);
    assert_eq!(write.cow_start, extent(188, CowSource::Zeros));
    assert_eq!(write.cow_end, extent(248, CowSource::Below));
    assert_eq!(write.bitmap, L2Bitmap::from_parts(0b1110, 0b1001_0000));
    let all_zero = allocates(0, L2Bitmap::ALL_ZERO, 0..1);
    assert_eq!(all_zero.reason, NewClusterReason::ZeroPlain);
    assert_eq!(all_zero.bitmap, L2Bitmap::from_parts(1, 0xffff_fffe));
}

#[test]
fn subclusters_that_hold_data_are_written_in_place() {
    let bitmap = L2Bitmap::from_parts(0b0110, 0b1000);
    assert_eq!(
        decide(HOST.get() | COPIED, bitmap, 512..1536),
        WriteDecision::InPlace { host: HOST }
    );
    // One subcluster further is zero: its rest is copied, that of the first one is there already.
    let write = allocates(HOST.get() | COPIED, bitmap, 700..1600);
    assert_eq!(write.reason, NewClusterReason::Subclusters { host: HOST });
    assert_eq!(write.place, Some(HOST));
    assert_eq!(write.cow_start.len, 0);
    assert_eq!(write.cow_end, extent(448, CowSource::Zeros));
    assert_eq!(write.bitmap, L2Bitmap::from_parts(0b1110, 0));
}

#[test]
fn preallocated_subclusters_copy_from_below() {
    let write = allocates(HOST.get() | COPIED, L2Bitmap::EMPTY, 10..20);
    assert_eq!(write.place, Some(HOST));
    assert_eq!(write.cow_start, extent(10, CowSource::Below));
    assert_eq!(write.cow_end, extent(492, CowSource::Below));
    assert_eq!(write.bitmap, L2Bitmap::from_parts(1, 0));
}

#[test]
fn a_shared_cluster_moves_from_its_first_to_its_last_data() {
    let bitmap = L2Bitmap::from_parts(0b0110_0000, 0b1000_0001);
    let write = allocates(HOST.get(), bitmap, 1024..1025);
    assert_eq!(write.reason, NewClusterReason::Shared { host: HOST });
    assert_eq!(write.place, None);
    assert_eq!(write.cow_start, extent(0, CowSource::Image));
    assert_eq!(write.cow_end, extent(7 * 512 - 1025, CowSource::Image));
    assert_eq!(write.bitmap, L2Bitmap::from_parts(0b0111_1100, 0b1000_0001));
    let nothing_there = allocates(HOST.get(), L2Bitmap::EMPTY, 1024..1025);
    assert_eq!(nothing_there.bitmap, L2Bitmap::from_parts(0b100, 0));
    assert_eq!(nothing_there.cow_end, extent(511, CowSource::Image));
}

#[test]
fn a_compressed_cluster_moves_as_a_whole() {
    let write = allocates(1 << 62 | 0x1234, L2Bitmap::EMPTY, 1000..2000);
    assert!(matches!(write.reason, NewClusterReason::Compressed(_)));
    assert_eq!((write.cow_start.len, write.cow_end.len), (1000, 0x4000 - 2000));
    assert_eq!(write.cow_start.source, write.reason.cow_source());
    assert_eq!(write.bitmap, L2Bitmap::ALL_ALLOCATED);
}
