//! Who owns which host clusters, as runs of neighbours of one area: small for big images, and one
//! look for a range of any length.

use std::collections::BTreeMap;

use crate::error::Area;

/// Host clusters of metadata, by their first cluster. Runs never overlap, and neighbours of one
/// area are one run.
#[derive(Debug, Default)]
pub(crate) struct AreaRuns {
    runs: BTreeMap<u64, Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    clusters: u32,
    area: Area,
}

/// Why clusters could not be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Something owns one of them already.
    Owned(Area),
    /// Remembering them would take memory out of proportion.
    TooMany,
}

/// Most runs that are remembered, about 250 MB of them: twice what the largest L1 table points at.
pub(crate) const RUNS_MAX: usize = 8 << 20;

impl AreaRuns {
    /// Notes that `clusters` host clusters from `first` on belong to `area`.
    pub(crate) fn claim(&mut self, area: Area, first: u64, clusters: u64) -> Result<(), Refusal> {
        if clusters == 0 {
            return Ok(());
        }
        let clusters = u32::try_from(clusters).map_err(|_| Refusal::TooMany)?;
        let end = first.checked_add(u64::from(clusters)).ok_or(Refusal::TooMany)?;
        if let Some(owner) = self.owner(first, end - 1) {
            return Err(Refusal::Owned(owner));
        }
        if self.runs.len() >= RUNS_MAX {
            return Err(Refusal::TooMany);
        }
        self.insert(first, Run { clusters, area });
        Ok(())
    }

    /// Notes that a snapshot uses the L2 table at `cluster`, too. Sharing one with the active
    /// tables or with another snapshot is what snapshots do; anything else there is an overlap.
    pub(crate) fn share_l2_table(&mut self, cluster: u64) -> Result<(), Refusal> {
        match self.owner(cluster, cluster) {
            None => self.claim(Area::SnapshotL2Table, cluster, 1),
            Some(Area::SnapshotL2Table) => Ok(()),
            Some(Area::L2Table) if self.runs.len() < RUNS_MAX => {
                self.cut_out(cluster);
                self.insert(cluster, Run { clusters: 1, area: Area::SnapshotL2Table });
                Ok(())
            }
            Some(Area::L2Table) => Err(Refusal::TooMany),
            Some(owner) => Err(Refusal::Owned(owner)),
        }
    }

    /// What owns one of the clusters from `first` to `last`, both included.
    pub(crate) fn owner(&self, first: u64, last: u64) -> Option<Area> {
        // If any run reaches into the range, so does the last one that begins before its end.
        let (start, run) = self.runs.range(..=last).next_back()?;
        (start + u64::from(run.clusters) > first).then_some(run.area)
    }

    /// What stands in the way of a write of `area` from `first` to `last`: the first cluster that
    /// is not its own, with its owner if it has one.
    pub(crate) fn first_not_of(&self, area: Area, first: u64, last: u64) -> Option<(u64, Area)> {
        let mut at = first;
        while at <= last {
            match self.run_at(at) {
                Some((start, run)) if run.area == area => at = start + u64::from(run.clusters),
                Some((_, run)) => return Some((at, run.area)),
                None => return Some((at, Area::Data)),
            }
        }
        None
    }

    /// Notes that a structure has left the cluster, which is still counted.
    pub(crate) fn retire(&mut self, cluster: u64) {
        let owned = self.run_at(cluster).is_some_and(|(_, run)| !of_snapshots(run.area));
        if owned {
            self.cut_out(cluster);
            self.insert(cluster, Run { clusters: 1, area: Area::RetiredTable });
        }
    }

    /// The first structure from `first` to `last` that is not `harmless`.
    pub(crate) fn first_but(
        &self,
        first: u64,
        last: u64,
        harmless: impl Fn(Area) -> bool,
    ) -> Option<(u64, Area)> {
        let before = self.run_at(first).map(|(_, run)| (first, run));
        let inside = self.runs.range(first..=last).map(|(&start, &run)| (start, run));
        let mut there = before.into_iter().chain(inside);
        there.find(|(_, run)| !harmless(run.area)).map(|(start, run)| (start, run.area))
    }

    /// Notes that nothing uses the cluster any more. What belongs to a snapshot stays protected:
    /// no snapshot goes away while the image is open, whatever the counts say.
    pub(crate) fn release(&mut self, cluster: u64) {
        let owned = self.run_at(cluster).is_some_and(|(_, run)| !of_snapshots(run.area));
        if owned {
            self.cut_out(cluster);
        }
    }

    /// Number of clusters, and the clusters, in order.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = (u64, u32)> {
        self.runs.iter().map(|(&first, run)| (first, run.clusters))
    }

    fn run_at(&self, cluster: u64) -> Option<(u64, Run)> {
        let (&start, &run) = self.runs.range(..=cluster).next_back()?;
        (start + u64::from(run.clusters) > cluster).then_some((start, run))
    }

    /// Takes one cluster out of its run.
    fn cut_out(&mut self, cluster: u64) {
        let Some((start, run)) = self.run_at(cluster) else { return };
        let before = cluster.saturating_sub(start) as u32;
        let after = run.clusters.saturating_sub(before).saturating_sub(1);
        self.runs.remove(&start);
        for (first, clusters) in [(start, before), (cluster + 1, after)] {
            if clusters > 0 {
                self.runs.insert(first, Run { clusters, ..run });
            }
        }
    }

    /// Adds a run that overlaps with none, joined with its neighbours.
    fn insert(&mut self, mut first: u64, mut run: Run) {
        let end = first + u64::from(run.clusters);
        if let Some(after) = self.runs.get(&end).copied()
            && let Some(joined) = run.joined(after)
        {
            self.runs.remove(&end);
            run = joined;
        }
        if let Some((&start, &before)) = self.runs.range(..first).next_back()
            && start + u64::from(before.clusters) == first
            && let Some(joined) = before.joined(run)
        {
            (first, run) = (start, joined);
        }
        self.runs.insert(first, run);
    }
}

impl Run {
    fn joined(self, next: Self) -> Option<Self> {
        let clusters = self.clusters.checked_add(next.clusters)?;
        (self.area == next.area).then_some(Self { clusters, ..self })
    }
}

/// Whether only snapshots, or snapshots too, use what is there.
fn of_snapshots(area: Area) -> bool {
    matches!(area, Area::SnapshotTable | Area::SnapshotL1Table | Area::SnapshotL2Table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &AreaRuns) -> Vec<(u64, u32)> {
        runs.clusters().collect()
    }

    #[test]
    fn neighbours_of_one_area_are_one_run() {
        let mut areas = AreaRuns::default();
        for cluster in [5, 3, 4, 9, 7, 8] {
            areas.claim(Area::L2Table, cluster, 1).unwrap();
        }
        areas.claim(Area::RefcountBlock, 6, 1).unwrap();
        assert_eq!(runs(&areas), [(3, 3), (6, 1), (7, 3)]);
        areas.release(8);
        areas.release(3);
        areas.release(100);
        assert_eq!(runs(&areas), [(4, 2), (6, 1), (7, 1), (9, 1)]);
    }

    #[test]
    fn what_is_owned_is_refused() {
        let mut areas = AreaRuns::default();
        areas.claim(Area::L1Table, 10, 4).unwrap();
        for (first, clusters) in [(13, 1), (10, 1), (8, 3), (9, 9), (11, 2)] {
            let refused = areas.claim(Area::Header, first, clusters);
            assert_eq!(refused, Err(Refusal::Owned(Area::L1Table)), "{first}+{clusters}");
        }
        areas.claim(Area::Header, 8, 2).unwrap();
        areas.claim(Area::Header, 14, 1).unwrap();
        assert_eq!(areas.claim(Area::Header, 20, 0), Ok(()));
        assert_eq!(areas.claim(Area::Header, u64::MAX, 1), Err(Refusal::TooMany));
        assert_eq!(areas.claim(Area::Header, 20, 1 << 32), Err(Refusal::TooMany));
        assert_eq!(runs(&areas), [(8, 2), (10, 4), (14, 1)]);
    }

    #[test]
    fn a_shared_table_is_cut_out_of_its_run() {
        let mut areas = AreaRuns::default();
        areas.claim(Area::L2Table, 10, 3).unwrap();
        areas.share_l2_table(11).unwrap();
        areas.share_l2_table(11).unwrap();
        areas.share_l2_table(13).unwrap();
        assert_eq!(runs(&areas), [(10, 1), (11, 1), (12, 1), (13, 1)]);
        areas.share_l2_table(12).unwrap();
        assert_eq!(runs(&areas), [(10, 1), (11, 3)]);
        areas.claim(Area::Header, 0, 1).unwrap();
        assert_eq!(areas.share_l2_table(0), Err(Refusal::Owned(Area::Header)));
        areas.release(11);
        areas.release(10);
        assert_eq!(areas.owner(10, 11), Some(Area::SnapshotL2Table), "snapshots keep theirs");
        assert_eq!(areas.owner(10, 10), None);
    }

    #[test]
    fn a_table_that_moved_leaves_clusters_without_structure() {
        let mut areas = AreaRuns::default();
        areas.claim(Area::L1Table, 10, 3).unwrap();
        areas.claim(Area::L2Table, 13, 2).unwrap();
        areas.share_l2_table(14).unwrap();
        let harmless = |area| area == Area::RetiredTable;
        for cluster in 10..=14 {
            areas.retire(cluster);
            let next = [(11, Area::L1Table), (12, Area::L1Table), (13, Area::L2Table)];
            let next = next.get(cluster as usize - 10).copied();
            let next = next.unwrap_or((14, Area::SnapshotL2Table));
            assert_eq!(areas.first_but(9, 20, harmless), Some(next));
            assert_eq!(areas.first_but(next.0, next.0, harmless), Some(next));
            assert_eq!(areas.first_but(15, 20, harmless), None);
        }
        assert_eq!(areas.owner(12, 12), Some(Area::RetiredTable), "still counted");
        areas.release(12);
        assert_eq!(areas.owner(12, 12), None);
    }

    #[test]
    fn a_structure_may_only_be_written_where_it_lies() {
        let mut areas = AreaRuns::default();
        areas.claim(Area::L2Table, 10, 2).unwrap();
        areas.claim(Area::L1Table, 12, 1).unwrap();
        assert_eq!(areas.first_not_of(Area::L2Table, 10, 11), None);
        assert_eq!(areas.first_not_of(Area::L2Table, 11, 12), Some((12, Area::L1Table)));
        assert_eq!(areas.first_not_of(Area::L2Table, 9, 10), Some((9, Area::Data)));
        assert_eq!(areas.first_not_of(Area::L1Table, 12, 13), Some((13, Area::Data)));
    }
}
