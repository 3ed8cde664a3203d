//! Mapping ahead: tables, entries and host clusters for area that the guest has not written to.
//!
//! New tables are written whole, in long runs, and never pass through the cache. The host clusters
//! read as zeros before anything leads to them.

use cluster_map::{Run, RunKind};
use qcow2_format::{GuestOffset, HostCluster, HostOffset, L1Entry, L2Entry};
use refcount::HostRun;

use crate::allocator::Reservation;
use crate::error::{Area, Error, Purpose, Result};
use crate::image::{Image, Writer};
use crate::preallocation::Preallocation;
use crate::slice_cache::{Slice, SliceNumber};
use crate::sync::Arc;

/// Bytes of tables that are made at once; bounds memory.
const TABLE_BYTES_AT_ONCE: u64 = 4 << 20;
/// Bytes of tables after which a flush bounds what the counts take in memory.
const TABLE_BYTES_PER_FLUSH: u64 = 64 << 20;
/// Zeros that are written at once.
const ZERO_BYTES: u64 = 1 << 20;

/// Host clusters handed out and not yet published.
#[derive(Debug, Default)]
struct Reserved {
    runs: Vec<HostRun>,
}

impl Image {
    /// Maps what lies between `start` and `end`. In whole clusters nothing is mapped yet; the rest
    /// of the first one reads as zeros.
    pub(super) fn map_ahead(&self, start: u64, end: u64, how: Preallocation) -> Result<()> {
        let first = start.next_multiple_of(self.geometry().cluster_bytes());
        self.map_rest_of_cluster(start, first.min(end), how)?;
        self.map_clusters(first, end, how)
    }

    /// Makes sure that a write to the rest of a cluster that has been there before needs no new
    /// host cluster: zeros are written over the zeros that are read. Host space that is kept for it
    /// in name only is reserved as asked.
    fn map_rest_of_cluster(&self, start: u64, end: u64, how: Preallocation) -> Result<()> {
        let plan = self.plan_read(start, end - start)?;
        let place = |run: &Run| match run.kind {
            RunKind::Data { host } => Some(host),
            RunKind::Zero { reserved } | RunKind::Below { reserved } => reserved,
            RunKind::Compressed { .. } => None,
        };
        let Some(places) = plan.runs().iter().map(place).collect::<Option<Vec<_>>>() else {
            return self.write_at(start, &vec![0; (end - start) as usize]);
        };
        if matches!(how, Preallocation::Falloc | Preallocation::Full) {
            for (run, host) in plan.runs().iter().zip(places) {
                let reserved = self.data_storage().allocate(host.get(), run.len);
                reserved.map_err(Error::storage(Purpose::Data))?;
                self.note_data_written();
            }
        }
        Ok(())
    }

    fn map_clusters(&self, start: u64, end: u64, how: Preallocation) -> Result<()> {
        let geometry = self.geometry();
        let covered = geometry.l2_table_guest_bytes();
        let at_once = (TABLE_BYTES_AT_ONCE / geometry.cluster_bytes()).max(1);
        let (mut at, mut since_flush) = (start, 0);
        while at < end {
            let table_end = (at - at % covered).saturating_add(covered);
            let has_table =
                self.l1.get(geometry.l1_index(GuestOffset::new(at))).table_offset().is_some();
            let part = if has_table {
                table_end.min(end)
            } else {
                table_end.saturating_add(covered.saturating_mul(at_once - 1)).min(end)
            };
            let mut reserved = Reserved::default();
            let mapped = if has_table {
                self.map_in_table(&mut reserved, at, part, how)
            } else {
                self.map_new_tables(&mut reserved, at, part, how)
            };
            self.give_back(reserved, mapped)?;
            since_flush += (part - at).div_ceil(covered) * geometry.cluster_bytes();
            if since_flush >= TABLE_BYTES_PER_FLUSH {
                self.flush()?;
                since_flush = 0;
            }
            at = part;
        }
        Ok(())
    }

    /// Maps a range whose L2 table is there: its entries go through the cache.
    fn map_in_table(
        &self,
        reserved: &mut Reserved,
        start: u64,
        end: u64,
        how: Preallocation,
    ) -> Result<()> {
        let writer = self.writer()?;
        let guests = || self.cluster_starts(start, end);
        // Held before anything is reserved, so that publishing cannot fail half way.
        let mut slices: Vec<(SliceNumber, Arc<Slice>)> = Vec::new();
        for guest in guests() {
            let number = self.slice_place(guest).number;
            if slices.last().is_none_or(|(last, _)| *last != number) {
                slices.push((number, self.slice_for_change(writer, guest)?));
            }
        }
        let data = self.place_data(writer, reserved, start, end, how)?;
        let mut slices = slices.iter().peekable();
        for (guest, host) in guests().zip(data) {
            let place = self.slice_place(guest);
            while slices.next_if(|(number, _)| *number < place.number).is_some() {}
            if let Some((number, slice)) = slices.peek() {
                self.slices.publish(*number, slice, place.index, L2Entry::owned(host).into());
            }
        }
        reserved.runs.clear();
        Ok(())
    }

    /// Maps a range whose L2 tables are not there: they are made in one go.
    fn map_new_tables(
        &self,
        reserved: &mut Reserved,
        start: u64,
        end: u64,
        how: Preallocation,
    ) -> Result<()> {
        let writer = self.writer()?;
        let geometry = self.geometry();
        let first = geometry.l1_index(GuestOffset::new(start));
        let tables = geometry.l1_index(GuestOffset::new(end - 1)) - first + 1;
        let places = self.reserve_tables(writer, reserved, tables)?;
        let data = self.place_data(writer, reserved, start, end, how)?;
        // Extended entries have an empty bitmap behind them: mapped, and nothing written yet.
        let entry_bytes = geometry.l2_entry_bytes();
        let mut bytes =
            vec![0; (geometry.l2_index(GuestOffset::new(start)) * entry_bytes) as usize];
        for host in data {
            bytes.extend_from_slice(&L2Entry::owned(host).bits().to_be_bytes());
            bytes.resize(bytes.len() + entry_bytes as usize - 8, 0);
        }
        bytes.resize((tables * geometry.cluster_bytes()) as usize, 0);
        let mut rest = bytes.as_slice();
        for run in &places {
            let (bytes, behind) = rest.split_at((run.count * geometry.cluster_bytes()) as usize);
            rest = behind;
            let at = self.host(run.first)?;
            self.storage.write_at(at.get(), bytes).map_err(Error::storage(Purpose::L2Table))?;
            self.note_written();
        }
        let tables = places.iter().flat_map(|run| run.clusters()).map(|table| self.host(table));
        let tables: Vec<HostOffset> = tables.collect::<Result<_>>()?;
        for (index, table) in (first..).zip(tables) {
            self.l1.publish(index, L1Entry::owned(table));
        }
        reserved.runs.clear();
        Ok(())
    }

    /// Host clusters for tables, in as few runs as they come.
    fn reserve_tables(
        &self,
        writer: &Writer,
        reserved: &mut Reserved,
        count: u64,
    ) -> Result<Vec<HostRun>> {
        let mut runs = Vec::new();
        let mut missing = count;
        while missing > 0 {
            let Reservation { run, .. } = writer.allocator.reserve(&writer.map, missing)?;
            reserved.runs.push(run);
            runs.push(run);
            let bytes = run.count * self.geometry().cluster_bytes();
            writer.map.claim(Area::L2Table, self.host(run.first)?, bytes)?;
            missing = missing.saturating_sub(run.count);
        }
        Ok(runs)
    }

    /// Where the data of a range lies, prepared as asked: in new host clusters, or in an external
    /// data file where it must lie.
    fn place_data(
        &self,
        writer: &Writer,
        reserved: &mut Reserved,
        start: u64,
        end: u64,
        how: Preallocation,
    ) -> Result<Vec<HostOffset>> {
        if self.data_file.is_none() {
            let clusters = self.geometry().clusters_for(end - start);
            return self.reserve_data(writer, reserved, clusters, how);
        }
        // Behind its end, and zeros therefore: it ends where the disk did.
        self.prepare(start, end - start, true, how)?;
        let host = |guest: GuestOffset| HostOffset::new(guest.get());
        Ok(self.cluster_starts(start, end).map(host).collect())
    }

    /// Host clusters for guest data, prepared as asked.
    fn reserve_data(
        &self,
        writer: &Writer,
        reserved: &mut Reserved,
        count: u64,
        how: Preallocation,
    ) -> Result<Vec<HostOffset>> {
        let mut hosts = Vec::with_capacity(count as usize);
        let mut missing = count;
        while missing > 0 {
            let reservation = writer.allocator.reserve(&writer.map, missing)?;
            reserved.runs.push(reservation.run);
            let bytes = reservation.run.count * self.geometry().cluster_bytes();
            let first = self.host(reservation.run.first)?;
            self.prepare(first.get(), bytes, reservation.fresh, how)?;
            for cluster in reservation.run.clusters() {
                hosts.push(self.host(cluster)?);
            }
            missing = missing.saturating_sub(reservation.run.count);
        }
        Ok(hosts)
    }

    /// Makes host space zeros, with as much of it reserved as asked. What is fresh is zeros.
    fn prepare(&self, start: u64, len: u64, fresh: bool, how: Preallocation) -> Result<()> {
        let during = || Error::storage(Purpose::Data);
        let storage = self.data_storage();
        if how == Preallocation::Full {
            let zeros = vec![0; len.min(ZERO_BYTES) as usize];
            let mut at = start;
            while at < start + len {
                let step = (start + len - at).min(ZERO_BYTES);
                storage.write_at(at, &zeros[..step as usize]).map_err(during())?;
                at += step;
            }
        } else {
            if !fresh && !storage.punch_hole(start, len).map_err(during())? {
                storage.write_zeroes_at(start, len).map_err(during())?;
            }
            if how == Preallocation::Falloc {
                storage.allocate(start, len).map_err(during())?;
            }
            if storage.len().map_err(during())? < start + len {
                storage.set_len(start + len).map_err(during())?;
            }
        }
        self.note_data_written();
        Ok(())
    }

    /// Releases what is left over when mapping failed.
    fn give_back(&self, reserved: Reserved, mapped: Result<()>) -> Result<()> {
        if mapped.is_err() {
            let writer = self.writer()?;
            for run in reserved.runs {
                self.poison.guard(writer.allocator.release(&writer.map, run))?;
            }
        }
        mapped
    }

    fn host(&self, cluster: HostCluster) -> Result<HostOffset> {
        let offset = self.geometry().host_offset(cluster);
        offset.ok_or(Error::Plan { reason: "a reserved cluster has no offset" })
    }
}
