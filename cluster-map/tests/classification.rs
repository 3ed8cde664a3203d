//! Cluster types: the traps of the format one by one, and the invariants for any bits at all.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use cluster_map::{
    ClusterType, CowSource, Dialect, EntryChange, Fault, Mapping, NewClusterReason, WriteDecision,
    ZeroMode, zeroed_mapping,
};
use proptest::prelude::*;
use qcow2_format::{
    ClusterBits, Geometry, GuestOffset, HostOffset, L2Entry, L2Layout, RefcountOrder, limit,
};

const GUEST: GuestOffset = GuestOffset::new(0x30_0000);

fn geometry(cluster_bits: u32) -> Geometry {
    let bits = ClusterBits::new(cluster_bits).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

fn classify(dialect: Dialect, bits: u64) -> Result<ClusterType, Fault> {
    let entry = L2Entry::from_bits(bits);
    ClusterType::classify(dialect, GUEST, entry).map_err(|error| {
        assert_eq!((error.guest, error.entry), (GUEST, entry), "the error says what and where");
        error.fault
    })
}

fn v3() -> Dialect {
    Dialect::version_3(geometry(16))
}

#[test]
fn trap_17_reserved_bits_do_not_leak_into_the_offset() {
    let host = HostOffset::new(0x5_0000);
    assert_eq!(classify(v3(), 0x8000_0000_0005_0002), Ok(ClusterType::Normal { host }));
    assert_eq!(classify(v3(), 0xbf00_0000_0005_01fe), Ok(ClusterType::Normal { host }));
}

#[test]
fn trap_18_the_zero_flag_is_damage_in_version_2() {
    let v2 = Dialect::version_2(geometry(16));
    assert_eq!(classify(v2, 1), Err(Fault::ZeroFlagInVersion2));
    assert_eq!(classify(v2, 0x8000_0000_0005_0001), Err(Fault::ZeroFlagInVersion2));
    // Bit 0 of a compressed entry is part of its offset.
    assert!(matches!(classify(v2, 0x4000_0000_0005_0001), Ok(ClusterType::Compressed(_))));
}

#[test]
fn trap_19_zero_plain_is_not_unallocated() {
    assert_eq!(classify(v3(), 1), Ok(ClusterType::ZeroPlain));
    assert!(ClusterType::ZeroPlain.answers());
    assert!(!ClusterType::Unallocated.answers());
    assert_eq!(NewClusterReason::ZeroPlain.cow_source(), CowSource::Zeros);
    assert_eq!(NewClusterReason::Unallocated.cow_source(), CowSource::Below);
}

#[test]
fn trap_30_the_offset_of_compressed_data_has_70_minus_cluster_bits_bits() {
    for cluster_bits in limit::CLUSTER_BITS_MIN..=limit::CLUSTER_BITS_MAX {
        let dialect = Dialect::version_3(geometry(cluster_bits));
        let x = 70 - cluster_bits;
        let Ok(ClusterType::Compressed(descriptor)) =
            classify(dialect, 1 << 62 | 1 << x | 0x1_2345)
        else {
            panic!("compressed");
        };
        assert_eq!(descriptor.host_offset(), HostOffset::new(0x1_2345));
        assert_eq!(descriptor.additional_sectors(), 1);
    }
}

#[test]
fn trap_47_host_offset_0_is_no_cluster() {
    assert_eq!(classify(v3(), 1 << 63), Ok(ClusterType::Unallocated));
}

#[test]
fn an_unaligned_offset_is_refused_with_its_place() {
    assert_eq!(classify(v3(), 0x8000_0000_0005_0200), Err(Fault::Unaligned));
    assert_eq!(classify(v3(), 0x5_0201), Err(Fault::Unaligned), "zero-allocated all the same");
    let entry = L2Entry::from_bits(0x8000_0000_0005_0200);
    let error = ClusterType::classify(v3(), GUEST, entry).unwrap_err();
    insta::assert_snapshot!(error, @"L2 table entry 0x8000000000050200 for guest offset 0x300000: host offset is not a multiple of the cluster size");
}

#[test]
fn compressed_data_ends_below_2_to_the_56() {
    // At 512-byte clusters the offset field is wider than any host offset.
    let small = Dialect::version_3(geometry(9));
    let compressed = 1 << 62;
    assert_eq!(classify(small, compressed | 1 << 56), Err(Fault::CompressedBeyondLimit));
    assert!(classify(small, compressed | ((1 << 56) - 512)).is_ok());
    let one_more_sector = 1 << 61;
    let last = compressed | one_more_sector | ((1 << 56) - 512);
    assert_eq!(classify(small, last), Err(Fault::CompressedBeyondLimit));
}

#[test]
fn zeroing_keeps_or_drops_the_cluster() {
    let normal = L2Entry::from_bits(0x8000_0000_0005_0000);
    let zeroed = |dialect, entry, mode| {
        let cluster = ClusterType::classify(dialect, GUEST, entry).unwrap();
        zeroed_mapping(dialect, entry.into(), cluster, mode).map(|new| new.entry.bits())
    };
    // Trap 20: the reserved cluster keeps its COPIED flag.
    assert_eq!(zeroed(v3(), normal, ZeroMode::Keep), Some(0x8000_0000_0005_0001));
    assert_eq!(zeroed(v3(), normal, ZeroMode::Unmap), Some(1));
    let compressed = L2Entry::from_bits(0x4000_0000_0005_0077);
    assert_eq!(zeroed(v3(), compressed, ZeroMode::Keep), Some(1), "never kept");
    for mode in [ZeroMode::Keep, ZeroMode::Unmap] {
        assert_eq!(zeroed(v3(), L2Entry::UNALLOCATED, mode), Some(1));
        assert_eq!(zeroed(v3(), L2Entry::ZERO_PLAIN, mode), Some(1));
        let v2 = Dialect::version_2(geometry(16));
        assert_eq!(zeroed(v2, normal, mode), None, "version 2 cannot say zeros");
    }
}

#[test]
fn a_change_prints_both_entries() {
    let change = EntryChange {
        guest: GUEST,
        old: Mapping::UNALLOCATED,
        new: L2Entry::owned(HostOffset::new(0x5_0000)).into(),
    };
    insta::assert_snapshot!(change, @"guest 0x300000 0x0 -> 0x8000000000050000");
}

#[test]
fn trap_63_external_data_lies_where_the_guest_sees_it() {
    let dialect = v3().with_external_data();
    let host = HostOffset::new(GUEST.get());
    let here = 1 << 63 | GUEST.get();
    assert_eq!(classify(dialect, here), Ok(ClusterType::Normal { host }));
    assert_eq!(classify(dialect, here + 0x1_0000), Err(Fault::ExternalDataElsewhere));
    assert_eq!(classify(dialect, 1 << 63), Err(Fault::ExternalDataElsewhere));
    assert_eq!(classify(dialect, 0), Ok(ClusterType::Unallocated));
    assert_eq!(classify(dialect, 1), Ok(ClusterType::ZeroPlain));
    assert_eq!(classify(dialect, 1 << 62 | 0x5_0000), Err(Fault::CompressedInExternalData));
    let first =
        |bits| ClusterType::classify(dialect, GuestOffset::ZERO, L2Entry::from_bits(bits)).unwrap();
    assert_eq!(first(1 << 63), ClusterType::Normal { host: HostOffset::ZERO });
    assert_eq!(first(1 << 63 | 1), ClusterType::ZeroPlain);
    // A new cluster has but one place.
    let decision = WriteDecision::decide(dialect, GUEST, Mapping::UNALLOCATED, 0..512);
    let Ok(WriteDecision::NewCluster(write)) = decision else { panic!("{decision:?}") };
    assert_eq!(write.place, Some(host));
}

fn any_dialect() -> impl Strategy<Value = Dialect> {
    (limit::CLUSTER_BITS_MIN..=limit::CLUSTER_BITS_MAX, 0..3).prop_map(|(bits, kind)| match kind {
        0 => Dialect::version_2(geometry(bits)),
        1 => Dialect::version_3(geometry(bits)),
        _ => Dialect::version_3(geometry(bits)).with_external_data(),
    })
}

/// Any bits, and often enough bits that mean something.
fn any_entry() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), 0_u64..4, 9_u32..22).prop_map(|(bits, flags, align)| {
            (bits >> 8) & !((1 << align) - 1) | (flags & 1) | (flags >> 1) << 63
        }),
    ]
}

proptest! {
    #[test]
    fn cm_1_the_same_bits_give_the_same_answer(dialect in any_dialect(), bits in any_entry(), guest: u64) {
        let entry = L2Entry::from_bits(bits);
        let here = ClusterType::classify(dialect, GUEST, entry).map_err(|error| error.fault);
        let there = ClusterType::classify(dialect, GuestOffset::new(guest), entry);
        // Only external data must lie where the guest sees it.
        prop_assume!(!dialect.has_external_data());
        prop_assert_eq!(here, there.map_err(|error| error.fault));
    }

    #[test]
    fn cm_1_reserved_bits_change_nothing(dialect in any_dialect(), bits in any_entry(), noise: u64) {
        let bits = bits & !(1 << 62);
        let noisy = bits ^ (noise & 0x3f00_0000_0000_01fe);
        prop_assert_eq!(classify(dialect, bits), classify(dialect, noisy));
    }

    #[test]
    fn cm_2_only_normal_with_copied_is_in_place(dialect in any_dialect(), bits in any_entry()) {
        let entry = L2Entry::from_bits(bits);
        let decision = WriteDecision::decide(dialect, GUEST, entry.into(), 0..512);
        match ClusterType::classify(dialect, GUEST, entry) {
            Ok(ClusterType::Normal { host }) if bits >> 63 == 1 || dialect.has_external_data() => {
                prop_assert_eq!(decision, Ok(WriteDecision::InPlace { host }));
            }
            Ok(_) => prop_assert!(matches!(decision, Ok(WriteDecision::NewCluster(_)))),
            Err(error) => prop_assert_eq!(decision, Err(error)),
        }
    }

    #[test]
    fn cm_4_host_offsets_are_aligned_and_below_the_limit(dialect in any_dialect(), bits in any_entry()) {
        match classify(dialect, bits) {
            Ok(ClusterType::Normal { host } | ClusterType::ZeroAllocated { host }) => {
                prop_assert!(dialect.geometry().is_cluster_aligned(host.get()));
                prop_assert!(host.get() < limit::HOST_OFFSET_MAX);
                prop_assert!(host.get() != 0 || dialect.has_external_data());
            }
            Ok(ClusterType::Compressed(descriptor)) => {
                let end = descriptor.host_offset().get() + descriptor.readable_bytes();
                prop_assert!(end <= limit::HOST_OFFSET_MAX);
            }
            _ => {}
        }
    }
}
