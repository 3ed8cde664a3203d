//! Which host clusters hold metadata: the guard against writing anything over structures that are
//! not its own.

use std::sync::PoisonError;

use qcow2_format::{Geometry, HostCluster, HostOffset};
use refcount::HostRun;

use crate::area_runs::{AreaRuns, RUNS_MAX, Refusal};
use crate::error::{Area, Error, Result};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Longer ranges are looked up under the lock, which takes one look for all of a range.
const FILTERED_CLUSTERS_MAX: u64 = 64;

/// Host clusters that hold metadata, and which.
#[derive(Debug)]
pub(crate) struct MetadataMap {
    geometry: Geometry,
    filter: Filter,
    runs: RwLock<AreaRuns>,
}

impl MetadataMap {
    /// `tables_to_come` is about how many more clusters will be claimed.
    pub(crate) fn new(geometry: Geometry, runs: AreaRuns, tables_to_come: u64) -> Self {
        let clusters = runs.clusters().map(|(_, clusters)| u64::from(clusters)).sum::<u64>();
        let filter = Filter::new(clusters.saturating_add(tables_to_come));
        for (first, clusters) in runs.clusters() {
            filter.insert(first, clusters);
        }
        Self { geometry, filter, runs: RwLock::new(runs) }
    }

    /// Notes that `len` bytes from `host` on hold metadata.
    ///
    /// # Errors
    /// Something else claims one of the clusters already.
    pub(crate) fn claim(&self, area: Area, host: HostOffset, len: u64) -> Result<()> {
        let first = self.geometry.host_cluster(host).get();
        let clusters = self.geometry.clusters_for(len);
        let refused = |refusal| claim_error(area, host, refusal);
        self.filter.insert(first, u32::try_from(clusters).unwrap_or(u32::MAX));
        self.write().claim(area, first, clusters).map_err(refused)
    }

    /// Notes that nothing uses the cluster any more, whatever it held. Before that it stays
    /// protected, even when memory no longer points at it: the disk still may.
    pub(crate) fn release(&self, cluster: HostCluster) {
        // Most clusters held data: nobody need be disturbed for them.
        if self.filter.may_hold(cluster.get()) {
            self.write().release(cluster.get());
        }
    }

    /// Notes that a structure has left its clusters. They stay protected like before until they are
    /// [released](Self::release); what belongs to a snapshot stays its own.
    pub(crate) fn retire(&self, clusters: HostRun) {
        let mut runs = self.write();
        clusters.clusters().for_each(|cluster| runs.retire(cluster.get()));
    }

    /// Looks once more at clusters that were given up some time ago and are about to be counted
    /// down. Counts that were wrong may have had one of them handed out for a structure since.
    /// Returns whether their host space may be given back: tables of snapshots keep theirs.
    pub(crate) fn guard_given_up(&self, run: HostRun) -> Result<bool> {
        let (first, last) = (run.first.get(), run.end().saturating_sub(1));
        if self.lets_pass(first, last) {
            return Ok(true);
        }
        let runs = self.read();
        let harmless = |area| matches!(area, Area::RetiredTable | Area::SnapshotL2Table);
        if let Some((cluster, owner)) = runs.first_but(first, last, harmless) {
            let host = self.geometry.host_offset(HostCluster::new(cluster));
            let host = host.unwrap_or(HostOffset::ZERO);
            return Err(Error::Overlap { claimant: Area::Data, host, owner });
        }
        Ok(runs.first_but(first, last, |area| area == Area::RetiredTable).is_none())
    }

    /// Refuses guest data at `len` bytes from `host` on when metadata lies there.
    pub(crate) fn guard_data(&self, host: HostOffset, len: u64) -> Result<()> {
        let (first, last) = self.clusters(host, len);
        if self.lets_pass(first, last) {
            return Ok(());
        }
        match self.read().owner(first, last) {
            None => Ok(()),
            Some(owner) => Err(Error::Overlap { claimant: Area::Data, host, owner }),
        }
    }

    /// Refuses a write of `len` bytes of `area` at `host` unless all of it lies on its own
    /// clusters.
    pub(crate) fn guard_metadata(&self, area: Area, host: HostOffset, len: u64) -> Result<()> {
        let (first, last) = self.clusters(host, len);
        let Some((cluster, owner)) = self.read().first_not_of(area, first, last) else {
            return Ok(());
        };
        let host = self.geometry.host_offset(HostCluster::new(cluster)).unwrap_or(host);
        Err(Error::Overlap { claimant: area, host, owner })
    }

    /// Refuses to cut the file at `end` when metadata lies behind it.
    pub(crate) fn guard_end(&self, end: HostCluster) -> Result<()> {
        match self.read().owner(end.get(), u64::MAX) {
            None => Ok(()),
            Some(owner) => {
                let host = self.geometry.host_offset(end).unwrap_or(HostOffset::ZERO);
                Err(Error::Overlap { claimant: Area::EndOfFile, host, owner })
            }
        }
    }

    /// Whether there is certainly no metadata from `first` to `last`, without a lock.
    fn lets_pass(&self, first: u64, last: u64) -> bool {
        let few = last.saturating_sub(first) < FILTERED_CLUSTERS_MAX;
        few && !(first..=last).any(|cluster| self.filter.may_hold(cluster))
    }

    /// First and last cluster of a range that is not empty.
    fn clusters(&self, host: HostOffset, len: u64) -> (u64, u64) {
        let last_byte = host.get().saturating_add(len.saturating_sub(1));
        let cluster = |offset| self.geometry.host_cluster(offset).get();
        (cluster(host), cluster(HostOffset::new(last_byte)))
    }

    fn read(&self) -> RwLockReadGuard<'_, AreaRuns> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, AreaRuns> {
        self.runs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it means to whoever opens the image that clusters could not be claimed.
pub(crate) fn claim_error(claimant: Area, host: HostOffset, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Owned(owner) => Error::Overlap { claimant, host, owner },
        Refusal::TooMany => Error::TooManyTables { area: claimant, allowed: RUNS_MAX as u64 },
    }
}

/// Says of most clusters, without a lock, that they hold no metadata. A set bit only says that
/// they may.
///
/// Writers in place look here for every cluster. The lock and the tree behind it cost several
/// times as much, and more with every thread.
#[derive(Debug)]
struct Filter {
    bits: Box<[AtomicU64]>,
}

impl Filter {
    /// Bits per cluster of metadata: one look in sixteen is in vain.
    const BITS_PER_CLUSTER: u64 = 16;
    /// From 1 KiB to 8 MiB.
    const BITS_MIN: u64 = 1 << 13;
    const BITS_MAX: u64 = 1 << 26;

    fn new(clusters: u64) -> Self {
        let bits = clusters.saturating_mul(Self::BITS_PER_CLUSTER);
        let bits = bits.clamp(Self::BITS_MIN, Self::BITS_MAX).next_power_of_two();
        Self { bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect() }
    }

    fn insert(&self, first: u64, clusters: u32) {
        if clusters as usize / 64 > self.bits.len() {
            // A run longer than there are bits sets about all of them.
            self.bits.iter().for_each(|word| word.store(u64::MAX, Ordering::Release));
            return;
        }
        for cluster in first..first.saturating_add(u64::from(clusters)) {
            let (word, bit) = self.place(cluster);
            word.fetch_or(bit, Ordering::Release);
        }
    }

    fn may_hold(&self, cluster: u64) -> bool {
        let (word, bit) = self.place(cluster);
        word.load(Ordering::Acquire) & bit != 0
    }

    fn place(&self, cluster: u64) -> (&AtomicU64, u64) {
        // Multiplicative hashing: tables at regular distances do not share bits. The upper half
        // of the product is the better one.
        let hash = cluster.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        // A power of two of words, never empty.
        let index = (hash >> 6) as usize & (self.bits.len() - 1);
        (&self.bits[index], 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use qcow2_format::{ClusterBits, L2Layout, RefcountOrder};

    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(ClusterBits::DEFAULT, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
    }

    #[test]
    fn guards_what_was_claimed_before_and_after() {
        let mut runs = AreaRuns::default();
        runs.claim(Area::Header, 0, 1).unwrap();
        let map = MetadataMap::new(geometry(), runs, 10);
        let table = HostOffset::new(0x5_0000);
        map.claim(Area::L2Table, table, 0x1_0000).unwrap();
        for (host, len, owner) in [
            (0, 1, Some(Area::Header)),
            (0x1_0000, 0x4_0000, None),
            (0x1_0000, 0x4_0001, Some(Area::L2Table)),
            (0x5_ffff, 1, Some(Area::L2Table)),
            (0x6_0000, 100 << 16, None),
            (0x1_0000, 100 << 16, Some(Area::L2Table)),
        ] {
            let found = match map.guard_data(HostOffset::new(host), len) {
                Ok(()) => None,
                Err(Error::Overlap { claimant: Area::Data, owner, .. }) => Some(owner),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, owner, "{host:#x}+{len:#x}");
        }
        map.guard_metadata(Area::L2Table, HostOffset::new(0x5_1000), 0x1000).unwrap();
        map.guard_metadata(Area::L2Table, HostOffset::new(0x5_f000), 0x1001).unwrap_err();
        map.release(HostCluster::new(5));
        map.guard_data(table, 1).unwrap();
    }

    #[test]
    fn the_filter_forgets_nothing_and_lets_most_pass() {
        let filter = Filter::new(4096);
        for table in 0..4096 {
            filter.insert(table * 8193, 1);
        }
        assert!((0..4096).all(|table| filter.may_hold(table * 8193)));
        let vain = (0..1_000_000).filter(|cluster| filter.may_hold(cluster * 31 + 1)).count();
        assert!(vain < 90_000, "{vain} of a million are looked up in vain");
        filter.insert(1 << 40, u32::MAX);
        assert!(filter.may_hold((1 << 40) + 12345));
    }
}
