//! Flushing: what is in memory reaches the disk in an order that is right at every instant.
//!
//! The three rules: a count rises on disk before anything on disk points at the cluster; data is
//! durable before the entry that exposes it; an entry stops pointing before the count falls. They
//! become the stages of a [`FlushPlan`], a value that can be looked at before it is carried out.
//! With lazy refcounts the first rule is traded for the dirty bit, which is on disk before the first
//! entry that is not counted; the other rules hold as ever.
//! Flushes that come while one is under way share the next one.

#[cfg(test)]
pub(crate) mod broken;
mod plan;
mod queue;

pub use plan::{FlushPlan, FlushStage, MetadataKind, MetadataWrite};
pub(crate) use plan::{merge, show_stages};
pub(crate) use queue::FlushQueue;

use std::sync::PoisonError;

use qcow2_format::{HostOffset, IncompatibleFeatures};

use crate::allocator::Unpublished;
use crate::error::{Area, Error, Purpose, Result};
use crate::image::{Image, Writer};
use crate::marks::Marks;
use crate::slice_cache::DirtySlices;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Mutex, MutexGuard};

/// How much a flush has to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What makes completed writes durable; counts may be postponed if the image allows it.
    AsNeeded,
    /// Everything that only memory knows.
    Everything,
}

impl Writer {
    /// Whether counts go to the disk with the entries, or wait until the image is closed (or too
    /// many of them fill the memory).
    fn counts_are_due(&self) -> bool {
        !self.lazy_refcounts || self.allocator.holds_too_many_blocks()
    }
}

impl Image {
    /// Makes every write that completed before this call durable.
    ///
    /// # Errors
    /// The host failed, now or at an earlier flush: the image is then given up for writing.
    pub fn flush(&self) -> Result<()> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        self.lead_or_follow(|| self.flush_now(writer, Extent::AsNeeded).map(drop))
    }

    /// Makes everything durable, postponed counts and counts that fall included, so that memory
    /// and disk agree.
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.flush_all_traced(&mut |_| {})
    }

    /// The same, and shows what is written.
    fn flush_all_traced(&self, show: &mut dyn FnMut(FlushPlan)) -> Result<()> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        let mut flush =
            || self.lead_or_follow(|| self.flush_now(writer, Extent::Everything).map(&mut *show));
        flush()?;
        if self.unsynced.load(Ordering::Acquire) {
            // The first flush ends with counts that fall, unsynced: without them there are leaks.
            flush()?;
        }
        Ok(())
    }

    /// Flushes everything, and only then says that nothing is postponed any more.
    pub(crate) fn flush_for_good(&self, show: &mut dyn FnMut(FlushPlan)) -> Result<()> {
        let Some(writer) = &self.writer else { return Ok(()) };
        self.flush_all_traced(show)?;
        let mut features = writer.marks.lock();
        let Some((clean, mark)) = Marks::clean_mark(*features) else { return Ok(()) };
        let plan = FlushPlan::clearing_dirty_mark(mark);
        self.poison.guarding(|| self.write_stages(writer, &plan))?;
        *features = clean;
        show(plan);
        Ok(())
    }

    /// Flushes like [`flush`](Image::flush) and returns what was written, stage by stage: for
    /// tests and for people.
    ///
    /// # Errors
    /// As for [`flush`](Image::flush).
    pub fn flush_traced(&self) -> Result<FlushPlan> {
        let writer = self.writer.as_ref().ok_or(Error::ReadOnly)?;
        let trace = Mutex::new(None);
        // A flush that is shared with another thread is that thread's to report: go again.
        while lock(&trace).is_none() {
            self.lead_or_follow(|| {
                let plan = self.flush_now(writer, Extent::AsNeeded)?;
                *lock(&trace) = Some(plan);
                Ok(())
            })?;
        }
        Ok(lock(&trace).take().unwrap_or_default())
    }

    fn lead_or_follow(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.flushes.run(
            || {
                self.poison.check()?;
                self.marking(work())
            },
            || self.poison.check(),
        )
    }

    fn flush_now(&self, writer: &Writer, extent: Extent) -> Result<FlushPlan> {
        // Growth of the refcount table writes blocks too; ours must not overtake its newer ones.
        let _write_back = writer.allocator.write_back();
        // A failure is known before that lock is free: blocks that never arrived count as clean,
        // and must not be forgotten.
        self.poison.guarding(|| self.flush_stages(writer, extent))
    }

    /// Gathers what is to be written and writes it, stage by stage. The write-back lock is held.
    fn flush_stages(&self, writer: &Writer, extent: Extent) -> Result<FlushPlan> {
        // The order of gathering matters while others go on changing things: clusters waiting to
        // be counted down first, then entries (which no longer point at them), then counts
        // (which cover every entry gathered before).
        let unpublished = writer.allocator.take_unpublished();
        #[cfg(test)]
        let unpublished = broken::counted_down(self, writer, unpublished)?;
        let holes = self.take_data_holes();
        let slices = self.slices.take_dirty();
        let with_counts = extent == Extent::Everything || writer.counts_are_due();
        // Held until the stages are written: whoever finds damage changes the same word.
        let mut features = writer.marks.lock();
        let mark = (!with_counts).then(|| Marks::dirty_mark(*features)).flatten();
        let plan = self.collect(writer, unpublished, &slices, with_counts, mark)?;
        #[cfg(test)]
        let plan = broken::rearranged(plan);
        if plan.marks_dirty() {
            // Before it is written: should a later stage fail, a mark of damage must not undo it.
            *features = features.with(IncompatibleFeatures::DIRTY);
        }
        // A failure is known before the word is free: no mark may be written after it.
        self.poison.guarding(|| self.write_stages(writer, &plan))?;
        drop(features);
        slices.are_written();
        self.punch_data_holes(&holes);
        self.settle(writer, plan.unpublished().to_vec(), with_counts)?;
        Ok(plan)
    }

    /// Gathers what has to be written after the slices: L1 entries, then counts.
    fn collect(
        &self,
        writer: &Writer,
        unpublished: Vec<Unpublished>,
        slices: &DirtySlices<'_>,
        with_counts: bool,
        dirty_mark: Option<(HostOffset, Vec<u8>)>,
    ) -> Result<FlushPlan> {
        let l1 = self.l1.take_dirty();
        let mut plan = FlushPlan::new(unpublished, self.data_file.is_some());
        if with_counts {
            let hooks = writer.allocator.take_hooks();
            let blocks = writer.allocator.take_dirty_blocks();
            plan.add_counts(blocks);
            plan.add_hooks(hooks);
        } else {
            let changes = !(l1.is_empty() && slices.copies().is_empty());
            plan.add_dirty_mark(dirty_mark.filter(|_| changes));
        }
        let mut entries = Vec::with_capacity(slices.copies().len());
        for (number, bytes) in slices.copies() {
            if let Some(at) = self.slice_offset(*number)? {
                entries.push((at, bytes.clone()));
            }
        }
        plan.add_entries(entries, self.header.l1_table_offset(), &l1);
        Ok(plan)
    }

    /// Makes guest data in an external file durable. No entry points at data that is not.
    fn sync_data_file(&self) -> Result<()> {
        let Some(data) = &self.data_file else { return Ok(()) };
        if self.data_unsynced.swap(false, Ordering::AcqRel) {
            // Pairs with the fence of whoever notes a write.
            fence(Ordering::SeqCst);
            data.storage.sync().map_err(Error::storage(Purpose::Sync))?;
        }
        Ok(())
    }

    fn write_stages(&self, writer: &Writer, plan: &FlushPlan) -> Result<()> {
        #[cfg(test)]
        if broken::is(broken::Broken::DataFileLast) {
            plan.stages().iter().try_for_each(|stage| self.write_stage(writer, stage))?;
            return self.sync_data_file();
        }
        self.sync_data_file()?;
        plan.stages().iter().try_for_each(|stage| self.write_stage(writer, stage))
    }

    fn write_stage(&self, writer: &Writer, stage: &FlushStage) -> Result<()> {
        for write in &stage.writes {
            writer.map.guard_metadata(write.kind.area(), write.offset, write.bytes.len() as u64)?;
            self.storage
                .write_at(write.offset.get(), &write.bytes)
                .map_err(Error::storage(write.kind.purpose()))?;
            self.note_written();
        }
        if self.unsynced.swap(false, Ordering::AcqRel) {
            // Pairs with the fence of whoever notes a write.
            fence(Ordering::SeqCst);
            self.storage.sync().map_err(Error::storage(Purpose::Sync))?;
        }
        Ok(())
    }

    /// Counts down what nothing on disk points at any more, as far as nobody still uses it.
    fn settle(
        &self,
        writer: &Writer,
        unpublished: Vec<Unpublished>,
        with_counts: bool,
    ) -> Result<()> {
        writer.allocator.blocks_are_written();
        let unused = self.flushes.quarantine(&self.pins, unpublished);
        if unused.is_empty() {
            return Ok(());
        }
        self.decompressed.clear();
        for clusters in unused {
            writer.allocator.count_down(&writer.map, clusters)?;
            if writer.allocator.holds_too_many_blocks() {
                self.write_blocks(writer)?;
            }
        }
        if with_counts { self.write_blocks(writer) } else { Ok(()) }
    }

    /// Writes refcount blocks outside the stages: counts may rise on disk at any time, and those
    /// that fell in memory may fall. Not synced: a count that stays too high is a leak, no more.
    fn write_blocks(&self, writer: &Writer) -> Result<()> {
        for block in writer.allocator.take_dirty_blocks() {
            let len = block.bytes.len() as u64;
            writer.map.guard_metadata(Area::RefcountBlock, block.offset, len)?;
            self.storage
                .write_at(block.offset.get(), &block.bytes)
                .map_err(Error::storage(Purpose::RefcountBlock))?;
            self.note_written();
        }
        writer.allocator.blocks_are_written();
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
