//! Holes that wait: while most of a file is given up, cutting its end off costs the host less than
//! punching all of it out first.

use std::sync::PoisonError;

use refcount::HostRun;

use super::Allocator;
use crate::error::Result;
use crate::sync::{Mutex, MutexGuard};

/// Runs that would have been punched, while holes are held back.
#[derive(Debug, Default)]
pub(super) struct HeldHoles(Mutex<Option<Vec<HostRun>>>);

impl HeldHoles {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<HostRun>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a hole for later, if that is wanted; says whether it did.
    pub(super) fn keep(&self, hole: HostRun) -> bool {
        self.lock().as_mut().map(|held| held.push(hole)).is_some()
    }
}

impl Allocator {
    /// From now on no hole is punched. Nobody but the caller uses the image until
    /// [`punch_held_holes`](Self::punch_held_holes).
    pub(crate) fn hold_holes_back(&self) {
        *self.held_holes.lock() = Some(Vec::new());
    }

    /// Punches what was held back, as far as the file, which ends at `file_bytes`, still has it and
    /// nobody has been handed it since.
    pub(crate) fn punch_held_holes(&self, file_bytes: u64) -> Result<()> {
        let held = self.held_holes.lock().take().unwrap_or_default();
        let end = file_bytes.div_ceil(self.geometry.cluster_bytes());
        for run in held {
            let mut hole: Option<HostRun> = None;
            for cluster in run.clusters().take_while(|cluster| cluster.get() < end) {
                let is_free = self.count_in(&mut self.lock(), cluster)? == 0;
                match &mut hole {
                    Some(hole) if is_free && hole.end() == cluster.get() => hole.count += 1,
                    _ => {
                        self.punch_hole(hole.take())?;
                        hole = is_free.then_some(HostRun { first: cluster, count: 1 });
                    }
                }
            }
            self.punch_hole(hole)?;
        }
        Ok(())
    }
}
