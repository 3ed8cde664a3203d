//! Flushing: what is in memory reaches the disk in an order that is right at every instant.
//!
//! The three rules: a count rises on disk before anything on disk points at the cluster; data is
//! durable before the entry that exposes it; an entry stops pointing before the count falls. They
//! become the stages of a [`FlushPlan`], a value that can be looked at before it is carried out.
//! Flushes that come while one is under way share the next one.

mod plan;
mod queue;

pub use plan::{FlushPlan, FlushStage, MetadataKind, MetadataWrite};
pub(crate) use queue::FlushQueue;

use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::allocator::Unpublished;
use crate::error::{Area, Error, Purpose, Result};
use crate::image::{Image, Writer};
use crate::slice_cache::DirtySlices;

impl Image {
    /// Makes every write that completed before this call durable.
    ///
    /// # Errors
    /// The host failed, now or at an earlier flush: the image is then given up for writing.
    pub fn flush(&self) -> Result<()> {
        let writer = self.writer()?;
        self.lead_or_follow(|| self.flush_now(writer).map(drop))
    }

    /// Flushes like [`flush`](Image::flush) and returns what was written, stage by stage: for
    /// tests and for people.
    ///
    /// # Errors
    /// As for [`flush`](Image::flush).
    pub fn flush_traced(&self) -> Result<FlushPlan> {
        let writer = self.writer()?;
        let trace = Mutex::new(None);
        // A flush that is shared with another thread is that thread's to report: go again.
        while lock(&trace).is_none() {
            self.lead_or_follow(|| {
                let plan = self.flush_now(writer)?;
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
                self.poison.guarding(work)
            },
            || self.poison.check(),
        )
    }

    fn flush_now(&self, writer: &Writer) -> Result<FlushPlan> {
        // Growth of the refcount table writes blocks too; ours must not overtake its newer ones.
        let _write_back = writer.allocator.write_back();
        // The order of gathering matters while others go on changing things: clusters waiting to
        // be counted down first, then entries (which no longer point at them), then counts
        // (which cover every entry gathered before).
        let unpublished = writer.allocator.take_unpublished();
        let slices = self.slices.take_dirty();
        let plan = self.collect(writer, unpublished, &slices)?;
        for stage in plan.stages() {
            self.write_stage(writer, stage)?;
        }
        slices.are_written();
        self.settle(writer, plan.unpublished().to_vec())?;
        writer.allocator.trim();
        Ok(plan)
    }

    /// Gathers what has to be written after the slices: L1 entries, then counts.
    fn collect(
        &self,
        writer: &Writer,
        unpublished: Vec<Unpublished>,
        slices: &DirtySlices<'_>,
    ) -> Result<FlushPlan> {
        let l1 = self.l1.take_dirty();
        let hooks = writer.allocator.take_hooks();
        let blocks = writer.allocator.take_dirty_blocks();
        let mut plan = FlushPlan::new(unpublished);
        plan.add_counts(blocks);
        plan.add_hooks(hooks);
        let mut entries = Vec::with_capacity(slices.copies().len());
        for (number, bytes) in slices.copies() {
            if let Some(at) = self.slice_offset(*number)? {
                entries.push((at, bytes.clone()));
            }
        }
        plan.add_entries(entries, self.header.l1_table_offset(), &l1);
        Ok(plan)
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
    fn settle(&self, writer: &Writer, unpublished: Vec<Unpublished>) -> Result<()> {
        let unused = self.flushes.quarantine(&self.pins, unpublished);
        if unused.is_empty() {
            return Ok(());
        }
        self.decompressed.clear();
        writer.allocator.count_down(&writer.map, &unused)?;
        // Not synced: a count that stays too high on disk is a leak, no more.
        for block in writer.allocator.take_dirty_blocks() {
            let len = block.bytes.len() as u64;
            writer.map.guard_metadata(Area::RefcountBlock, block.offset, len)?;
            self.storage
                .write_at(block.offset.get(), &block.bytes)
                .map_err(Error::storage(Purpose::RefcountBlock))?;
            self.note_written();
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
