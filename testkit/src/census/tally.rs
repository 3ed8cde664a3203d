//! `Tally`: a number for each cluster, most of which are close to the start.

use std::collections::BTreeMap;

/// Clusters that have their place in one array; more than any test fills.
const NEAR_MAX: u64 = 1 << 20;

/// A number for each host cluster; 0 where nothing was noted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    near: Vec<u64>,
    far: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn add(&mut self, cluster: u64, number: u64) {
        if cluster >= NEAR_MAX {
            *self.far.entry(cluster).or_default() += number;
            return;
        }
        let index = cluster as usize;
        if self.near.len() <= index {
            self.near.resize(index + 1, 0);
        }
        self.near[index] += number;
    }

    pub(super) fn get(&self, cluster: u64) -> u64 {
        match self.near.get(cluster as usize) {
            Some(&number) if cluster < NEAR_MAX => number,
            _ => self.far.get(&cluster).copied().unwrap_or(0),
        }
    }

    /// What was noted, by cluster.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        let near = self.near.iter().enumerate().map(|(cluster, &number)| (cluster as u64, number));
        let far = self.far.iter().map(|(&cluster, &number)| (cluster, number));
        near.chain(far).filter(|(_, number)| *number != 0)
    }
}

#[test]
fn near_and_far() {
    let mut tally = Tally::default();
    for cluster in [3, 1 << 40, 3, NEAR_MAX] {
        tally.add(cluster, 2);
    }
    let noted: Vec<_> = tally.iter().collect();
    assert_eq!(noted, [(3, 4), (NEAR_MAX, 2), (1 << 40, 2)]);
    assert_eq!([3, 4, NEAR_MAX, u64::MAX].map(|cluster| tally.get(cluster)), [4, 0, 2, 0]);
}
