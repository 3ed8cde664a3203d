//! Runs: what merges, what does not, and that no byte is lost or told twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use cluster_map::{ClusterType, Dialect, Run, RunKind, Runs};
use proptest::prelude::*;
use qcow2_format::{
    ClusterBits, Geometry, GuestOffset, HostOffset, L2Entry, L2Layout, RefcountOrder,
};

const CLUSTER: u64 = 4096;

fn geometry() -> Geometry {
    let bits = ClusterBits::new(12).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

/// The runs of neighbouring clusters with these entries, from byte `skip` of the first on.
fn runs(skip: u64, entries: &[u64]) -> Runs {
    let mut runs = Runs::new();
    for (number, &bits) in entries.iter().enumerate() {
        let start = number as u64 * CLUSTER;
        let skip = if number == 0 { skip } else { 0 };
        let cluster = GuestOffset::new(start);
        let entry = L2Entry::from_bits(bits);
        let cluster =
            ClusterType::classify(Dialect::version_3(geometry()), cluster, entry).unwrap();
        let kind = RunKind::of(cluster, skip);
        runs.push(Run { guest: GuestOffset::new(start + skip), len: CLUSTER - skip, kind });
    }
    runs
}

fn text(runs: &Runs) -> String {
    runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const A: u64 = 0x8000_0000_0001_0000;
const B: u64 = A + CLUSTER;
const ZERO_A: u64 = A | 1;
const ZERO_B: u64 = B | 1;

#[test]
fn neighbours_on_the_host_merge() {
    insta::assert_snapshot!(text(&runs(0x10, &[A, B, A])), @r"
    guest 0x10+0x1ff0 data host 0x10010
    guest 0x2000+0x1000 data host 0x10000
    ");
}

#[test]
fn copied_does_not_keep_neighbours_apart() {
    insta::assert_snapshot!(text(&runs(0, &[A, B & !(1 << 63)])), @"guest 0x0+0x2000 data host 0x10000");
}

#[test]
fn unallocated_and_zero_plain_merge_among_themselves_only() {
    insta::assert_snapshot!(text(&runs(0, &[0, 0, 1, 1, 0])), @r"
    guest 0x0+0x2000 below
    guest 0x2000+0x2000 zero
    guest 0x4000+0x1000 below
    ");
}

#[test]
fn reserved_zeros_merge_when_their_clusters_are_neighbours() {
    insta::assert_snapshot!(text(&runs(0, &[ZERO_A, ZERO_B, ZERO_A, 1, B])), @r"
    guest 0x0+0x2000 zero (reserved host 0x10000)
    guest 0x2000+0x1000 zero (reserved host 0x10000)
    guest 0x3000+0x1000 zero
    guest 0x4000+0x1000 data host 0x11000
    ");
}

#[test]
fn compressed_clusters_stay_alone() {
    let compressed = 0x4000_0000_0001_0123;
    insta::assert_snapshot!(text(&runs(8, &[compressed, compressed])), @r"
    guest 0x8+0xff8 compressed host 0x10123 221 bytes, skip 0x8
    guest 0x1000+0x1000 compressed host 0x10123 221 bytes, skip 0x0
    ");
}

#[test]
fn data_never_continues_into_zeros_of_the_next_host_byte() {
    assert_eq!(runs(0, &[A, ZERO_B]).as_slice().len(), 2);
    assert_eq!(runs(0, &[ZERO_A, B]).as_slice().len(), 2);
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "CM-3: no gap")]
fn a_gap_is_noticed() {
    let run = |guest| Run {
        guest: GuestOffset::new(guest),
        len: 1,
        kind: RunKind::Below { reserved: None },
    };
    let mut runs = Runs::new();
    runs.push(run(0));
    runs.push(run(2));
}

/// What one guest byte is answered with: the kind, and the host byte where it has one.
fn answer(kind: RunKind, skip: u64) -> (&'static str, Option<u64>) {
    match kind {
        RunKind::Below { .. } => ("below", None),
        RunKind::Zero { reserved } => ("zero", reserved.map(|host| host.get() + skip)),
        RunKind::Data { host } => ("data", Some(host.get() + skip)),
        RunKind::Compressed { descriptor, skip: first } => {
            ("compressed", Some(descriptor.host_offset().get() + ((first + skip) << 32)))
        }
    }
}

fn any_entry() -> impl Strategy<Value = u64> {
    let host = (1_u64..6).prop_map(|number| number * CLUSTER);
    prop_oneof![
        Just(0),
        Just(1),
        host.clone(),
        host.clone().prop_map(|host| host | 1 << 63),
        host.clone().prop_map(|host| host | 1 << 63 | 1),
        host.prop_map(|host| host | 1 << 62),
    ]
}

proptest! {
    #[test]
    fn cm_3_runs_cover_the_range_once_and_say_what_each_cluster_says(
        skip in 0..CLUSTER,
        entries in prop::collection::vec(any_entry(), 1..40),
    ) {
        let runs = runs(skip, &entries);
        let mut at = skip;
        for run in &runs {
            prop_assert_eq!(run.guest.get(), at);
            prop_assert!(run.len > 0);
            at += run.len;
        }
        prop_assert_eq!(at, entries.len() as u64 * CLUSTER);
        for pair in runs.as_slice().windows(2) {
            prop_assert!(!pair[0].kind.continues(pair[0].len, pair[1].kind), "left unmerged");
        }
        for (number, &bits) in entries.iter().enumerate() {
            let guest = number as u64 * CLUSTER + CLUSTER - 1;
            let run = runs.iter().find(|run| {
                (run.guest.get()..run.guest.get() + run.len).contains(&guest)
            }).unwrap();
            let entry = L2Entry::from_bits(bits);
            let dialect = Dialect::version_3(geometry());
            let cluster = ClusterType::classify(dialect, GuestOffset::ZERO, entry).unwrap();
            let expected = answer(RunKind::of(cluster, CLUSTER - 1), 0);
            prop_assert_eq!(answer(run.kind, guest - run.guest.get()), expected);
        }
    }

    #[test]
    fn cm_4_the_offset_inside_a_cluster_is_kept(skip in 0..CLUSTER, number in 1_u64..1 << 40) {
        let host = HostOffset::new(number * CLUSTER);
        let expected = HostOffset::new(number * CLUSTER + skip);
        prop_assert_eq!(RunKind::of(ClusterType::Normal { host }, skip), RunKind::Data { host: expected });
        prop_assert_eq!(
            RunKind::of(ClusterType::ZeroAllocated { host }, skip),
            RunKind::Zero { reserved: Some(expected) }
        );
    }
}
