//! Which host clusters hold metadata: the guard against writing guest data over tables.

use std::collections::HashMap;
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
            let cluster = HostCluster::new(first.saturating_add(number));
            if let Some(owner) = clusters.insert(cluster, area) {
                return Err(Error::Overlap { claimant: area, host, owner });
            }
        }
        Ok(())
    }

    /// Notes that the clusters no longer hold metadata.
    pub(crate) fn release(&self, first: HostCluster, count: u64) {
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        for number in 0..count {
            clusters.remove(&HostCluster::new(first.get().saturating_add(number)));
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
