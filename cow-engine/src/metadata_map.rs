//! Which host clusters hold metadata: the guard against writing guest data over tables.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{PoisonError, RwLock};

use qcow2_format::{Geometry, HostCluster, HostOffset};

use crate::error::{Area, Error, Result};

/// Host clusters that hold metadata, and which.
#[derive(Debug)]
pub(crate) struct MetadataMap {
    geometry: Geometry,
    clusters: RwLock<HashMap<HostCluster, Area>>,
}

impl MetadataMap {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self { geometry, clusters: RwLock::default() }
    }

    /// Notes that `len` bytes from `host` on hold metadata of the image as found.
    ///
    /// # Errors
    /// Something else claims one of the clusters already.
    pub(crate) fn claim(&self, area: Area, host: HostOffset, len: u64) -> Result<()> {
        let first = self.geometry.host_cluster(host).get();
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        for number in 0..self.geometry.clusters_for(len) {
            match clusters.entry(HostCluster::new(first.saturating_add(number))) {
                Entry::Vacant(free) => free.insert(area),
                Entry::Occupied(taken) => {
                    return Err(Error::Overlap { claimant: area, host, owner: *taken.get() });
                }
            };
        }
        Ok(())
    }

    /// Notes that nothing uses the cluster any more, whatever it held. Before that it stays
    /// protected, even when memory no longer points at it: the disk still may.
    pub(crate) fn release(&self, cluster: HostCluster) {
        let known = |clusters: &HashMap<_, _>| clusters.contains_key(&cluster);
        // Most clusters held data: they are not here, and readers need not be disturbed.
        if known(&self.clusters.read().unwrap_or_else(PoisonError::into_inner)) {
            self.clusters.write().unwrap_or_else(PoisonError::into_inner).remove(&cluster);
        }
    }

    /// Refuses guest data at `len` bytes from `host` on when metadata lies there.
    pub(crate) fn guard_data(&self, host: HostOffset, len: u64) -> Result<()> {
        let first = self.geometry.host_cluster(host).get();
        let last_byte = host.get().saturating_add(len.saturating_sub(1));
        let last = self.geometry.host_cluster(HostOffset::new(last_byte)).get();
        let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
        for cluster in first..=last {
            if let Some(&owner) = clusters.get(&HostCluster::new(cluster)) {
                return Err(Error::Overlap { claimant: Area::Data, host, owner });
            }
        }
        Ok(())
    }
}
