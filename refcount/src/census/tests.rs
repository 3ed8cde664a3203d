//! Tests of the census against a plain map.

use std::collections::BTreeMap;
use std::prelude::v1::*;

use proptest::prelude::*;

use super::*;

fn cluster(index: u64) -> HostCluster {
    HostCluster::new(index)
}

#[test]
fn counts_beyond_a_byte_are_exact() {
    let mut census = Census::new();
    census.add(cluster(4090), 10, 250);
    census.add(cluster(4095), 2, 10);
    assert_eq!(census.get(cluster(4094)), 250);
    assert_eq!(census.get(cluster(4095)), 260);
    assert_eq!(census.get(cluster(4096)), 260);
    census.add(cluster(4096), 1, u64::MAX);
    assert_eq!(census.get(cluster(4096)), u64::MAX, "saturated");
    census.set(cluster(4096), 3);
    census.add(cluster(4096), 1, 1);
    assert_eq!(census.get(cluster(4096)), 4);
    assert_eq!(census.end(), cluster(4100));
    let above: Vec<_> = census.above(255).collect();
    assert_eq!(above, [(cluster(4095), 260)]);
}

#[test]
fn memory_is_taken_only_where_something_is_counted() {
    let mut census = Census::new();
    census.add(cluster(1 << 31), 1, 1);
    census.set(cluster(1 << 30), 0);
    assert_eq!(census.pages.iter().flatten().count(), 1);
    assert_eq!(census.counts().count(), 1);
}

#[test]
fn what_is_found_counts_for_at_most_what_can_be_stored() {
    let mut stored = Census::new();
    let mut counted = Census::new();
    stored.set(cluster(5), 1);
    counted.add(cluster(5), 1, 2);
    assert_eq!(Census::mismatches(&stored, &counted, 1).count(), 0);
    assert_eq!(
        Census::mismatches(&stored, &counted, 3).collect::<Vec<_>>(),
        [Mismatch { cluster: cluster(5), stored: 1, counted: 2 }]
    );
    // Equal, and both beyond the width.
    stored.set(cluster(5), 2);
    assert_eq!(Census::mismatches(&stored, &counted, 1).count(), 1);
}

proptest! {
    #[test]
    fn a_census_is_a_map(
        stored in proptest::collection::vec((3900_u64..4500, 0_u64..400), 0..40),
        counted in proptest::collection::vec((3900_u64..4300, 0_u64..300, 0_u64..300), 0..6),
    ) {
        let (mut census, mut map) = (Census::new(), BTreeMap::new());
        for (index, count) in stored {
            census.set(cluster(index), count);
            map.insert(index, count);
        }
        let (mut other, mut other_map) = (Census::new(), BTreeMap::<u64, u64>::new());
        for (first, count, weight) in counted {
            other.add(cluster(first), count, weight);
            for index in (first..).zip(0..count).map(|(index, _)| index) {
                let sum = other_map.entry(index).or_default();
                *sum = sum.saturating_add(weight);
            }
        }
        let nonzero = |map: &BTreeMap<u64, u64>| -> Vec<(HostCluster, u64)> {
            map.iter().filter(|(_, count)| **count != 0).map(|(&i, &n)| (cluster(i), n)).collect()
        };
        prop_assert_eq!(census.counts().collect::<Vec<_>>(), nonzero(&map));
        prop_assert_eq!(other.counts().collect::<Vec<_>>(), nonzero(&other_map));
        for max in [1, 15, 255, 65535] {
            let expected: Vec<Mismatch> = (3900..4700)
                .map(|index| Mismatch {
                    cluster: cluster(index),
                    stored: map.get(&index).copied().unwrap_or(0),
                    counted: other_map.get(&index).copied().unwrap_or(0).min(max),
                })
                .filter(|mismatch| mismatch.stored != mismatch.counted)
                .collect();
            let found: Vec<Mismatch> = Census::mismatches(&census, &other, max).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
