//! Areas: neighbouring clusters in any number, for tables that must not be interrupted.

use qcow2_format::{HostCluster, HostOffset};
use refcount::{HostRun, Need, Reserve};

use super::{Allocator, Books};
use crate::error::{Area, Error, Result};
use crate::metadata_map::MetadataMap;
use crate::sync::atomic::Ordering;

impl Allocator {
    /// Hands out `clusters` neighbouring clusters for a table.
    ///
    /// As many as one refcount block counts are found like any others. More come with a growth of
    /// the refcount table: elsewhere a block stands at the start of each range.
    pub(crate) fn reserve_area(
        &self,
        map: &MetadataMap,
        area: Area,
        clusters: u64,
    ) -> Result<HostOffset> {
        let first = if clusters < self.geometry.refcounts_per_block() {
            self.reserve_run(map, clusters, Reserve::Exactly)?.run.first
        } else {
            self.grow_with_area(map, clusters)?
        };
        let offset = self.offset(first)?;
        let bytes = clusters.saturating_mul(self.geometry.cluster_bytes());
        map.claim(area, offset, bytes)?;
        Ok(offset)
    }

    fn grow_with_area(&self, map: &MetadataMap, clusters: u64) -> Result<HostCluster> {
        let _write_back = self.write_back();
        let books = &mut *self.lock();
        let growth = match books.ledger.plan_area(clusters) {
            Ok(growth) => growth,
            Err(need) => return Err(refused(need)),
        };
        self.poison.guard(self.grow(map, books, growth))?;
        self.note_fresh(books);
        Ok(growth.extra())
    }

    /// Takes back an area that nothing points at.
    pub(crate) fn release_area(
        &self,
        map: &MetadataMap,
        area: HostOffset,
        clusters: u64,
    ) -> Result<()> {
        self.release(map, HostRun { first: self.geometry.host_cluster(area), count: clusters })
    }

    /// Lets those who must not wait for the books know where never-used clusters begin.
    pub(super) fn note_fresh(&self, books: &Books) {
        let fresh = books.ledger.fresh_from().get();
        self.fresh_from.store(fresh, Ordering::Release);
    }
}

fn refused(need: Need) -> Error {
    match need {
        Need::Fail(error) => error.into(),
        _ => Error::Plan { reason: "planning an area needs no block" },
    }
}
