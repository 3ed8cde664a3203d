//! Marks: what a writer says about the image in the header while, and because, things go wrong.
//!
//! The dirty bit is raised before counts on disk may become too low (lazy refcounts), and lowered
//! when they are right again. The corrupt bit is raised when damage is found: nothing is written
//! after it, and nobody opens the image for writing before it was repaired.

use std::sync::{Arc, PoisonError};

use qcow2_format::{FieldUpdate, HostOffset, IncompatibleFeatures, Version};

use crate::error::{Error, Purpose, Result};
use crate::image::Image;
use crate::sync::{Mutex, MutexGuard, OnceLock};

/// The incompatible features as they stand on disk, and why writing has ended, if it has.
#[derive(Debug)]
pub(crate) struct Marks {
    version: Version,
    features: Mutex<IncompatibleFeatures>,
    found: OnceLock<Arc<Error>>,
}

impl Marks {
    pub(crate) fn new(version: Version, features: IncompatibleFeatures) -> Self {
        Self { version, features: Mutex::new(features), found: OnceLock::new() }
    }

    /// Refuses with the damage that was found, if there was any.
    pub(crate) fn check(&self) -> Result<()> {
        match self.found.get() {
            None => Ok(()),
            Some(first) => Err(Error::Poisoned(Arc::clone(first))),
        }
    }

    /// Held by whoever changes the word on disk.
    pub(crate) fn lock(&self) -> MutexGuard<'_, IncompatibleFeatures> {
        self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The header write that raises the dirty bit, if it is not up.
    pub(crate) fn dirty_mark(features: IncompatibleFeatures) -> Option<(HostOffset, Vec<u8>)> {
        let marked = features.with(IncompatibleFeatures::DIRTY);
        (marked != features).then(|| Self::update(marked))
    }

    /// The header write that lowers the dirty bit, if it is up, and the word after it.
    pub(crate) fn clean_mark(
        features: IncompatibleFeatures,
    ) -> Option<(IncompatibleFeatures, (HostOffset, Vec<u8>))> {
        let clean = features.without(IncompatibleFeatures::DIRTY);
        (clean != features).then(|| (clean, Self::update(clean)))
    }

    /// The header write that stores the word.
    fn update(features: IncompatibleFeatures) -> (HostOffset, Vec<u8>) {
        let update = FieldUpdate::incompatible_features(features);
        (HostOffset::new(update.offset()), update.bytes().to_vec())
    }
}

impl Image {
    /// Passes a result through. If it tells of damage in a writable image, the image is marked
    /// corrupt and takes no more writes; what was written before can still be flushed.
    pub(crate) fn marking<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_damage()
        {
            self.mark_corrupt(error);
        }
        result
    }

    fn mark_corrupt(&self, error: &Error) {
        let Some(writer) = &self.writer else { return };
        let marks = &writer.marks;
        // A flush that fails does so with the word locked: there is no moment in between.
        let mut features = marks.lock();
        if self.poison.is_host_failure() {
            // CE-5: that came first, and not even these eight bytes are written after it.
            return;
        }
        if marks.found.set(Arc::new(error.clone())).is_err() || marks.version == Version::V2 {
            // Marked already; or nowhere to put the mark.
            return;
        }
        let marked = features.with(IncompatibleFeatures::CORRUPT);
        // The damage is what the caller has to hear of, not that it could not be noted. But a sync
        // that fails here may be about anything that was written before.
        if self.poison.guard(self.write_features(marked)).is_ok() {
            *features = marked;
        }
    }

    fn write_features(&self, features: IncompatibleFeatures) -> Result<()> {
        let (at, bytes) = Marks::update(features);
        self.storage.write_at(at.get(), &bytes).map_err(Error::storage(Purpose::Header))?;
        self.storage.sync().map_err(Error::storage(Purpose::Sync))
    }
}
