//! `PendingWrite`: a plan with everything it holds until it is published or dropped.

use cluster_map::{ClusterType, NewClusterReason};
use refcount::HostRun;
use smallvec::SmallVec;

use crate::allocator::Allocator;
use crate::error::Result;
use crate::image::{Image, Writer};
use crate::in_flight::InFlightGuard;
use crate::pins::Pin;
use crate::plan::{NewCluster, WritePlan, WriteRun};
use crate::slice_cache::{Slice, SliceNumber};
use crate::sync::Arc;

/// A write that is decided and not yet visible.
///
/// Do everything the [`plan`](PendingWrite::plan) says, then [`publish`](PendingWrite::publish).
/// Dropping it instead gives its new clusters back; the guest sees what it saw before, except
/// where in-place runs were already written.
///
/// As long as this lives, the clusters that the plan writes belong to nobody else, the old ones that
/// it copies from keep their bytes, and other first writes of the same guest clusters stay out.
/// Publish or drop it only when no I/O for it is under way, cancelled or not: a write that arrives
/// later would land in clusters of somebody else. A loop keeps its queue and its plans in one struct,
/// the queue in an earlier field: dropped first, it waits for the kernel, even in a panic.
#[derive(Debug)]
#[must_use = "nothing is visible until the write is published"]
pub struct PendingWrite<'i> {
    pub(crate) image: &'i Image,
    pub(crate) writer: &'i Writer,
    pub(crate) plan: WritePlan,
    /// Host clusters that are given back when this is dropped unpublished.
    pub(crate) reserved: SmallVec<[HostRun; 2]>,
    /// Slices that publishing will change, held so that it cannot fail for lack of them.
    pub(crate) slices: SmallVec<[(SliceNumber, Arc<Slice>); 2]>,
    pub(crate) _in_flight: Option<InFlightGuard<'i>>,
    pub(crate) _pin: Pin<'i>,
}

impl PendingWrite<'_> {
    /// What is to be done before publishing.
    #[must_use]
    pub fn plan(&self) -> &WritePlan {
        &self.plan
    }

    /// Makes the new entries visible; the next flush makes them durable.
    ///
    /// # Errors
    /// The image was given up meanwhile; nothing is published then.
    pub fn publish(mut self) -> Result<()> {
        self.image.writer()?;
        // Whoever carried the plan out with I/O of their own did not tell: without this a flush
        // would not know that there is something to sync.
        self.image.note_data_written();
        // From here on nothing can fail: the clusters belong to the entries.
        self.reserved.clear();
        let mut old = SmallVec::<[HostRun; 2]>::new();
        for run in &self.plan.runs {
            let WriteRun::Allocate(run) = run else { continue };
            for cluster in &run.clusters {
                self.publish_entry(cluster);
                old.extend(replaced(&self.writer.allocator, self.image, cluster.reason));
            }
        }
        if !old.is_empty() {
            self.writer.allocator.unpublish(old.into_iter(), false);
        }
        Ok(())
    }

    fn publish_entry(&self, cluster: &NewCluster) {
        let place = self.image.slice_place(cluster.change.guest);
        let slice = self.slices.iter().find(|(number, _)| *number == place.number);
        debug_assert!(slice.is_some(), "the plan holds every slice it changes");
        if let Some((number, slice)) = slice {
            self.image.slices.publish(*number, slice, place.index, cluster.change.new);
        }
    }
}

impl Drop for PendingWrite<'_> {
    fn drop(&mut self) {
        for run in self.reserved.drain(..) {
            // A failure only means that the clusters stay counted: a leak, which check reports.
            let released = self.writer.allocator.release(&self.writer.map, run);
            let _ = self.image.poison.guard(released);
        }
    }
}

/// Host clusters that lose a reference when a write replaces an entry for this reason.
pub(crate) fn replaced(
    allocator: &Allocator,
    image: &Image,
    reason: NewClusterReason,
) -> Option<HostRun> {
    match reason {
        NewClusterReason::Unallocated | NewClusterReason::ZeroPlain => None,
        // Serves as the new cluster.
        NewClusterReason::ZeroAllocated { owned: true, .. }
        | NewClusterReason::Subclusters { .. } => None,
        NewClusterReason::Shared { host }
        | NewClusterReason::ZeroAllocated { host, owned: false } => {
            referenced(allocator, image, ClusterType::Normal { host })
        }
        NewClusterReason::Compressed(descriptor) => Some(allocator.compressed_run(descriptor)),
    }
}

/// Host clusters that an entry of this type refers to.
pub(crate) fn referenced(
    allocator: &Allocator,
    image: &Image,
    cluster: ClusterType,
) -> Option<HostRun> {
    match cluster {
        ClusterType::Unallocated | ClusterType::ZeroPlain => None,
        // What lies in a file of its own is not counted.
        _ if image.dialect.has_external_data() => None,
        ClusterType::ZeroAllocated { host } | ClusterType::Normal { host } => {
            Some(HostRun { first: image.geometry().host_cluster(host), count: 1 })
        }
        ClusterType::Compressed(descriptor) => Some(allocator.compressed_run(descriptor)),
    }
}
