//! Deciding a write: in place or not, which clusters, which copies, which entries.

use block_io::StorageExt;
use cluster_map::{ClusterWrite, CowExtent, EntryChange, Mapping, WriteDecision};
use qcow2_format::{GuestOffset, HostOffset, L1Entry, L2Entry};
use refcount::HostRun;
use smallvec::SmallVec;

use super::pending::{PendingWrite, replaced};
use crate::data_file::DataFile;
use crate::error::{Area, Error, Purpose, Result};
use crate::image::{Image, Writer};
use crate::in_flight::InFlightGuard;
use crate::plan::{AllocateRun, CowRange, InPlaceRun, NewCluster, WritePlan, WriteRun};
use crate::slice_cache::Slice;
use crate::sync::Arc;

/// Most clusters that are looked at for one run of host clusters; bounds the work when the free
/// space is in small pieces.
const LOOK_AHEAD_CLUSTERS_MAX: usize = 1024;

/// A guest cluster that needs a new entry, what that takes, and its present one.
type Wanted = (GuestOffset, ClusterWrite, Mapping);

/// A guest cluster that the write touches, and the touched bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    /// First guest byte of the cluster.
    pub(crate) cluster: u64,
    /// First and one past the last touched byte.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Image {
    /// Decides a write of `len` bytes at guest byte `offset` without writing any of them.
    ///
    /// The returned value holds what the plan needs: reserved host clusters, and the guest range
    /// if entries change (overlapping first writes wait for it). A thread that holds one must not
    /// begin another write to the same clusters: it would wait for itself. A thread with many
    /// writes under way takes [`try_begin_write`](Image::try_begin_write).
    ///
    /// # Errors
    /// As for [`write_at`](Image::write_at).
    pub fn begin_write(&self, offset: u64, len: u64) -> Result<PendingWrite<'_>> {
        let hold = |start, end| Some(self.in_flight.hold(start, end));
        let pending = self.marking(self.plan_write(offset, len, hold))?;
        pending.ok_or(Error::Plan { reason: "a range that was waited for is not held" })
    }

    /// Decides a write like [`begin_write`](Image::begin_write), or returns `None` where that would
    /// wait: an entry of the range has to change, and another write, zeroing or discard of the
    /// same clusters is under way. Try again when one of them was published or dropped.
    ///
    /// For loops that have many writes under way on one thread. Table pieces that are not in memory
    /// are still read here, one small read each; a flush is made when too much waits for one.
    ///
    /// # Errors
    /// As for [`write_at`](Image::write_at).
    pub fn try_begin_write(&self, offset: u64, len: u64) -> Result<Option<PendingWrite<'_>>> {
        let hold = |start, end| self.in_flight.try_hold(start, end);
        self.marking(self.plan_write(offset, len, hold))
    }

    /// The plan, or `None` when `hold` does not get its guest range.
    fn plan_write<'i>(
        &'i self,
        offset: u64,
        len: u64,
        hold: impl FnOnce(u64, u64) -> Option<InFlightGuard<'i>>,
    ) -> Result<Option<PendingWrite<'i>>> {
        self.check_range(offset, len)?;
        let writer = self.writer()?;
        if len == 0 || !self.keeps_a_raw_image() {
            let mut pending = self.pending_write(writer, offset, len);
            if let Some(runs) = self.plan_in_place(writer, offset, len)? {
                pending.plan.runs = runs;
                return Ok(Some(pending));
            }
        }
        self.relieve()?;
        let mut pending = self.pending_write(writer, offset, len);
        let geometry = self.geometry();
        let start = geometry.cluster_start(offset);
        let end = geometry.cluster_start(offset + len - 1) + geometry.cluster_bytes();
        let Some(held) = hold(start, end) else { return Ok(None) };
        pending._in_flight = Some(held);
        self.plan_allocating(&mut pending)?;
        Ok(Some(pending))
    }

    /// A write that holds nothing yet but its pin: what is looked up from now on stays protected.
    fn pending_write<'i>(&'i self, writer: &'i Writer, offset: u64, len: u64) -> PendingWrite<'i> {
        PendingWrite {
            image: self,
            writer,
            plan: WritePlan { guest: GuestOffset::new(offset), len, runs: SmallVec::new() },
            reserved: SmallVec::new(),
            slices: SmallVec::new(),
            _in_flight: None,
            _pin: self.pins.pin(),
        }
    }

    /// Where to write a range that lies in one cluster which this image owns; `None` otherwise.
    /// The caller has a pin.
    pub(super) fn place_in_cluster(
        &self,
        writer: &Writer,
        offset: u64,
        len: u64,
    ) -> Result<Option<HostOffset>> {
        let cluster = self.geometry().cluster_start(offset);
        let touched = Touched { cluster, start: offset, end: offset + len };
        if len == 0 || touched.end - cluster > self.geometry().cluster_bytes() {
            return Ok(None);
        }
        Ok(self.in_place_run(writer, touched)?.map(|run| run.host))
    }

    /// The run of one cluster that is written in place; `None` if it is not.
    fn in_place_run(&self, writer: &Writer, touched: Touched) -> Result<Option<InPlaceRun>> {
        let mapping = self.mapping(GuestOffset::new(touched.cluster))?;
        match self.decide(touched, mapping)? {
            WriteDecision::InPlace { host } => self.guarded(writer, host, touched).map(Some),
            WriteDecision::NewCluster(_) => Ok(None),
        }
    }

    /// The whole range as in-place runs, or `None` as soon as one cluster is not.
    fn plan_in_place(
        &self,
        writer: &Writer,
        offset: u64,
        len: u64,
    ) -> Result<Option<SmallVec<[WriteRun; 2]>>> {
        let mut runs = SmallVec::new();
        for touched in self.touched(offset, len) {
            let Some(run) = self.in_place_run(writer, touched)? else { return Ok(None) };
            push_in_place(&mut runs, run);
        }
        Ok(Some(runs))
    }

    /// Plans a range of which some clusters need new entries. The range is held.
    fn plan_allocating(&self, pending: &mut PendingWrite<'_>) -> Result<()> {
        let (offset, len) = (pending.plan.guest.get(), pending.plan.len);
        let touched: SmallVec<[Touched; 8]> = self.touched(offset, len).collect();
        let mut rest = touched.as_slice();
        while let Some(&first) = rest.first() {
            let mapping = self.mapping(GuestOffset::new(first.cluster))?;
            let used = match self.decide(first, mapping)? {
                WriteDecision::InPlace { host } => {
                    let run = self.guarded(pending.writer, host, first)?;
                    push_in_place(&mut pending.plan.runs, run);
                    1
                }
                WriteDecision::NewCluster(_) => self.plan_new(pending, rest)?,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Plans new entries for the leading clusters of `touched` that need one, the first among
    /// them, in as many runs as host clusters come. Returns how many clusters.
    fn plan_new(&self, pending: &mut PendingWrite<'_>, touched: &[Touched]) -> Result<usize> {
        let ahead = touched.get(..LOOK_AHEAD_CLUSTERS_MAX).unwrap_or(touched);
        let wanted = self.collect_new(pending, ahead)?;
        let mut at = 0;
        while let Some(rest) = wanted.get(at..).filter(|rest| !rest.is_empty()) {
            let (host, count, fresh) = self.place_new(pending, rest)?;
            let end = at + count;
            let run = self.allocate_run(&wanted[at..end], &touched[at..end], host, fresh)?;
            pending.plan.runs.push(WriteRun::Allocate(Box::new(run)));
            at = end;
        }
        match at {
            // The range is held since before its entries were looked at.
            0 => Err(Error::Plan { reason: "an entry changed under a held range" }),
            count => Ok(count),
        }
    }

    /// Where the first of the `wanted` clusters goes, how many of those after it follow right
    /// behind (itself counted), and whether the place was never written.
    fn place_new(
        &self,
        pending: &mut PendingWrite<'_>,
        wanted: &[Wanted],
    ) -> Result<(HostOffset, usize, bool)> {
        if let Some((_, ClusterWrite { place: Some(host), .. }, _)) = wanted.first() {
            let count = self.place_reserved(pending.writer, *host, wanted)?;
            return Ok((*host, count, false));
        }
        let writer = pending.writer;
        let alone = wanted.iter().take_while(|(_, write, _)| write.place.is_none());
        let reservation = writer.allocator.reserve(&writer.map, alone.count() as u64)?;
        pending.reserved.push(reservation.run);
        let host = self.geometry().host_offset(reservation.run.first);
        let host = host.ok_or(Error::Plan { reason: "a reserved cluster has no offset" })?;
        Ok((host, (reservation.run.count as usize).min(wanted.len()), reservation.fresh))
    }

    /// How many of the `wanted` clusters have their place already, one behind the other from
    /// `host` on.
    fn place_reserved(
        &self,
        writer: &Writer,
        host: HostOffset,
        wanted: &[Wanted],
    ) -> Result<usize> {
        let cluster_bytes = self.geometry().cluster_bytes();
        let mut count = 0;
        for (guest, write, _) in wanted {
            let next = host.checked_add(count as u64 * cluster_bytes);
            let Some(place) = write.place.filter(|place| Some(*place) == next) else { break };
            self.guard_write(writer, guest.get(), place)?;
            count += 1;
        }
        Ok(count)
    }

    /// The leading clusters that need a new entry, with their reasons; their slices are held and
    /// their L2 tables made private first, so that publishing cannot fail.
    fn collect_new(
        &self,
        pending: &mut PendingWrite<'_>,
        touched: &[Touched],
    ) -> Result<SmallVec<[Wanted; 8]>> {
        let mut wanted = SmallVec::new();
        for touched in touched {
            let guest = GuestOffset::new(touched.cluster);
            let number = self.slice_place(guest).number;
            if pending.slices.last().is_none_or(|(held, _)| *held != number) {
                let slice = self.slice_for_change(pending.writer, guest)?;
                pending.slices.push((number, slice));
            }
            let mapping = self.mapping(guest)?;
            match self.decide(*touched, mapping)? {
                WriteDecision::InPlace { .. } => break,
                WriteDecision::NewCluster(write) => {
                    let old = replaced(&pending.writer.allocator, self, write.reason);
                    self.guard_freed(pending.writer, old)?;
                    wanted.push((guest, write, mapping));
                }
            }
        }
        Ok(wanted)
    }

    fn allocate_run(
        &self,
        wanted: &[Wanted],
        touched: &[Touched],
        host: HostOffset,
        fresh: bool,
    ) -> Result<AllocateRun> {
        let cluster_bytes = self.geometry().cluster_bytes();
        let at = |skip: u64| {
            host.checked_add(skip).ok_or(Error::Plan { reason: "a host offset leaves 64 bits" })
        };
        let (Some(first), Some(last)) = (touched.first(), touched.last()) else {
            return Err(Error::Plan { reason: "a run without clusters" });
        };
        let (Some((_, first_write, _)), Some((_, last_write, _))) = (wanted.first(), wanted.last())
        else {
            return Err(Error::Plan { reason: "a run without clusters" });
        };
        // A data file ends where the disk ends; in the image file whole clusters are filled.
        let end = match self.dialect.has_external_data() {
            true => self.virtual_size(),
            false => u64::MAX,
        };
        let cow = |from: u64, extent: CowExtent| -> Result<Option<CowRange>> {
            let CowExtent { len, source } = extent;
            let len = len.min(end.saturating_sub(from));
            let (guest, host) = (GuestOffset::new(from), at(from - first.cluster)?);
            Ok((len > 0).then_some(CowRange { guest, host, len, source }))
        };
        let mut clusters = SmallVec::with_capacity(wanted.len());
        for (number, &(guest, write, old)) in wanted.iter().enumerate() {
            let entry = L2Entry::owned(at(number as u64 * cluster_bytes)?);
            let new = Mapping { entry, bitmap: write.bitmap };
            let change = EntryChange { guest, old, new };
            clusters.push(NewCluster { reason: write.reason, change });
        }
        Ok(AllocateRun {
            guest: GuestOffset::new(first.start),
            host: at(first.start - first.cluster)?,
            len: last.end - first.start,
            cow_start: cow(first.start - first_write.cow_start.len, first_write.cow_start)?,
            cow_end: cow(last.end, last_write.cow_end)?,
            fresh,
            clusters,
        })
    }

    /// Decides for one cluster of a write.
    fn decide(&self, touched: Touched, mapping: Mapping) -> Result<WriteDecision> {
        let guest = GuestOffset::new(touched.cluster);
        let inside = touched.start - touched.cluster..touched.end - touched.cluster;
        Ok(WriteDecision::decide(self.dialect, guest, mapping, inside)?)
    }

    /// The clusters that a range touches.
    pub(crate) fn touched(&self, offset: u64, len: u64) -> impl Iterator<Item = Touched> + use<> {
        let geometry = self.geometry();
        let (end, cluster_bytes) = (offset + len, geometry.cluster_bytes());
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let cluster = geometry.cluster_start(at);
            let touched = Touched { cluster, start: at, end: end.min(cluster + cluster_bytes) };
            at = touched.end;
            Some(touched)
        })
    }

    /// Refuses to write where an entry points when metadata lies there, or nothing at all.
    fn guard_write(&self, writer: &Writer, cluster: u64, host: HostOffset) -> Result<()> {
        if self.dialect.has_external_data() {
            // No metadata there, and its end is no border.
            return Ok(());
        }
        writer.map.guard_data(host, self.geometry().cluster_bytes())?;
        if self.geometry().host_cluster(host) < writer.allocator.fresh_from() {
            return Ok(());
        }
        let file_bytes = self.storage.len().map_err(Error::storage(Purpose::Length))?;
        Err(Error::LostCluster { guest: GuestOffset::new(cluster), host, file_bytes })
    }

    /// Refuses to give clusters up that hold metadata, whatever an entry says about them.
    pub(crate) fn guard_freed(&self, writer: &Writer, old: Option<HostRun>) -> Result<()> {
        let Some(run) = old else { return Ok(()) };
        let Some(host) = self.geometry().host_offset(run.first) else { return Ok(()) };
        writer.map.guard_data(host, run.count.saturating_mul(self.geometry().cluster_bytes()))
    }

    /// An in-place run for one cluster, unless its entry points where no data can be.
    fn guarded(&self, writer: &Writer, host: HostOffset, touched: Touched) -> Result<InPlaceRun> {
        self.guard_write(writer, touched.cluster, host)?;
        let host = host
            .checked_add(touched.start - touched.cluster)
            .ok_or(Error::Plan { reason: "a host offset leaves 64 bits" })?;
        let guest = GuestOffset::new(touched.start);
        Ok(InPlaceRun { guest, host, len: touched.end - touched.start })
    }

    /// The slice that maps `guest`, in an L2 table that may be changed in place.
    pub(crate) fn slice_for_change(
        &self,
        writer: &Writer,
        guest: GuestOffset,
    ) -> Result<Arc<Slice>> {
        let l1_index = self.geometry().l1_index(guest);
        let maker = self.l1.lock_maker(l1_index);
        let entry = self.l1.get(l1_index);
        match self.l2_table_offset(l1_index, entry)? {
            Some(_) if entry.is_copied() => {}
            Some(shared) => self.copy_table(writer, l1_index, shared)?,
            None => self.make_table(writer, l1_index)?,
        }
        drop(maker);
        self.slice_if_any(guest)?.ok_or(Error::Plan { reason: "a new L2 table is not there" })
    }

    /// A new L2 table full of zeros. It is on its way to the disk before the L1 entry is
    /// published; the barrier of the next flush lies between the two.
    fn make_table(&self, writer: &Writer, l1_index: u64) -> Result<()> {
        self.new_table(writer, l1_index, |table| {
            self.storage
                .write_zeroes_at(table.get(), self.geometry().cluster_bytes())
                .map_err(Error::storage(Purpose::L2Table))
        })
    }

    /// A private copy of an L2 table that is shared. Slices in memory keep their changes: they
    /// are named by guest range and will be written to the new place.
    fn copy_table(&self, writer: &Writer, l1_index: u64, shared: HostOffset) -> Result<()> {
        self.new_table(writer, l1_index, |table| {
            let mut bytes = vec![0; self.geometry().cluster_bytes() as usize];
            self.storage
                .read_zero_filled(shared.get(), &mut bytes)
                .map_err(Error::storage(Purpose::L2Table))?;
            self.storage.write_at(table.get(), &bytes).map_err(Error::storage(Purpose::L2Table))
        })?;
        let first = self.geometry().host_cluster(shared);
        let old = HostRun { first, count: 1 };
        writer.map.retire(old);
        writer.allocator.unpublish(std::iter::once(old), false);
        Ok(())
    }

    /// Reserves a table, lets `fill` write it and publishes its L1 entry. Nothing points at a table
    /// that could not be filled: it is given back and the image goes on.
    fn new_table(
        &self,
        writer: &Writer,
        l1_index: u64,
        fill: impl FnOnce(HostOffset) -> Result<()>,
    ) -> Result<()> {
        let table = writer.allocator.reserve_table(&writer.map, Area::L2Table)?;
        let filled = self.poison.check().and_then(|()| fill(table));
        self.note_written();
        if let Err(error) = filled {
            let released = writer.allocator.release_table(&writer.map, table);
            self.poison.guard(released)?;
            return Err(error);
        }
        self.l1.publish(l1_index, L1Entry::owned(table));
        Ok(())
    }

    /// Flushes when so much waits for a flush that memory would grow.
    pub(crate) fn relieve(&self) -> Result<()> {
        let writer = self.writer()?;
        #[cfg(test)]
        crate::flush::broken::free_at_once(self, writer)?;
        let holes_wait = || self.data_file.as_ref().is_some_and(DataFile::wants_flush);
        if self.slices.wants_flush() || writer.allocator.wants_flush() || holes_wait() {
            self.flush()?;
        }
        Ok(())
    }
}

fn push_in_place(runs: &mut SmallVec<[WriteRun; 2]>, run: InPlaceRun) {
    if let Some(WriteRun::InPlace(last)) = runs.last_mut()
        && last.host.checked_add(last.len) == Some(run.host)
    {
        last.len += run.len;
        return;
    }
    runs.push(WriteRun::InPlace(run));
}
