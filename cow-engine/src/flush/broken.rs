//! Orders that break a rule of the flush, one at a time: whoever cuts the power afterwards must
//! notice. Built for unit tests only; nothing of it is in the crate that users build.

use std::cell::Cell;

use super::{FlushPlan, FlushStage};
use crate::allocator::Unpublished;
use crate::error::Result;
use crate::image::{Image, Writer};

#[cfg(not(any(loom, shuttle)))]
mod history;
#[cfg(not(any(loom, shuttle)))]
mod tests;

/// What this thread does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(any(loom, shuttle), expect(dead_code, reason = "models keep the order"))]
pub(crate) enum Broken {
    /// Rule 1: entries are durable before the counts, or before the mark that counts wait.
    EntriesFirst,
    /// Rule 1: no barrier between counts and entries.
    EntriesBesideCounts,
    /// Rule 2: no barrier between data and the entries that expose it. Only where no count rises,
    /// so that nothing else is wrong.
    EntriesBesideData,
    /// Rule 2: an external data file is synced after the entries.
    DataFileLast,
    /// Rule 3: counts fall, and holes are punched, before the entries stop pointing on disk.
    CountsDownFirst,
    /// Rule 3: what an entry in memory no longer points at is handed out at once.
    FreedAtOnce,
}

thread_local! {
    static BROKEN: Cell<Option<Broken>> = const { Cell::new(None) };
}

/// Does `work` while a rule is broken on this thread.
#[cfg(not(any(loom, shuttle)))]
fn while_broken<T>(what: Option<Broken>, work: impl FnOnce() -> T) -> T {
    let before = BROKEN.replace(what);
    let answer = work();
    BROKEN.set(before);
    answer
}

pub(crate) fn is(what: Broken) -> bool {
    BROKEN.get() == Some(what)
}

/// The plan in the order of this thread.
pub(super) fn rearranged(mut plan: FlushPlan) -> FlushPlan {
    let stages = plan.stages_mut();
    let data = FlushStage { name: "data", writes: Vec::new() };
    let has_entries = stages.last().is_some_and(|stage| stage.name == "entries");
    match BROKEN.get() {
        Some(Broken::EntriesFirst) if has_entries => {
            stages.rotate_right(1);
            stages.insert(0, data);
        }
        Some(Broken::EntriesBesideCounts) if has_entries => {
            let writes = stages.drain(..).flat_map(|stage| stage.writes).collect();
            stages.extend([data, FlushStage { name: "counts and entries", writes }]);
        }
        Some(Broken::EntriesBesideData) if has_entries && stages[0].writes.is_empty() => {
            stages.remove(0);
        }
        _ => {}
    }
    plan
}

/// Counts down what entries in memory no longer point at, before any of them is written.
pub(super) fn counted_down(
    image: &Image,
    writer: &Writer,
    unpublished: Vec<Unpublished>,
) -> Result<Vec<Unpublished>> {
    if !is(Broken::CountsDownFirst) {
        return Ok(unpublished);
    }
    image.decompressed.clear();
    unpublished.into_iter().try_for_each(|run| writer.allocator.count_down(&writer.map, run))?;
    Ok(Vec::new())
}

/// The same, before anything else happens.
pub(crate) fn free_at_once(image: &Image, writer: &Writer) -> Result<()> {
    if !is(Broken::FreedAtOnce) {
        return Ok(());
    }
    image.decompressed.clear();
    let mut freed = writer.allocator.take_unpublished().into_iter();
    freed.try_for_each(|run| writer.allocator.count_down(&writer.map, run))
}
