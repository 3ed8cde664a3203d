//! Power cuts over all files of an image at once: one order of events for the image file and an
//! external data file, durability for each file by its own syncs only.

use std::sync::Arc;

use block_io::MemoryStorage;
use testkit::census::{self, Census};
use testkit::{CrashFile, CrashFiles, CrashFilesLog, CrashPlan, LostSync};

use crate::kinds::Media;

/// Names of the files in messages.
const NAMES: [&str; 2] = ["image     ", "data file "];

/// What makes a census one of an image that loses data, if anything does.
pub(crate) fn complaint(census: &Census) -> Option<String> {
    census.complaint()
}

/// Nothing is wrong with an image that was closed, and it does not say otherwise.
#[track_caller]
pub(crate) fn assert_closed(image: &[u8]) {
    census::assert_clean(image);
    assert!(!census::take(image).dirty, "the image is marked dirty");
}

/// Decides which syncs never reach the medium, by file (0 is the image) and number (from 1).
pub(crate) type Lost = LostSync;

/// All syncs arrive.
pub(crate) fn none_lost(_: usize, _: u64) -> bool {
    false
}

/// The files of an image, with one log over all of them.
#[derive(Debug)]
pub(crate) struct Power {
    media: Media<CrashFile>,
    files: CrashFiles,
}

/// A power cut, and what it left.
pub(crate) struct Left {
    /// Length of the log when the power went.
    pub(crate) position: usize,
    pub(crate) media: Media<MemoryStorage>,
}

/// Everything that happened.
pub(crate) struct PowerLog(CrashFilesLog);

impl Power {
    /// Begins with what is in these files, all of it durable.
    pub(crate) fn on(start: &Media<MemoryStorage>, lost: Lost) -> Self {
        let initial = std::iter::once(&start.image).chain(&start.data);
        let files = CrashFiles::losing(initial.map(|file| (**file).clone()), lost);
        let file = |number: usize| files.files().get(number).map(Arc::clone);
        let media = Media { image: file(0).unwrap(), data: file(1) };
        Self { media, files }
    }

    /// The files, to open the image in.
    pub(crate) fn media(&self) -> &Media<CrashFile> {
        &self.media
    }

    /// How many events there were so far, in all files.
    pub(crate) fn position(&self) -> usize {
        self.files.position()
    }

    pub(crate) fn log(&self) -> PowerLog {
        PowerLog(self.files.log())
    }
}

impl PowerLog {
    /// Judges states after power cuts at every sync and at the end, up to `states_max` for each;
    /// returns how many there were, and the first complaint.
    pub(crate) fn check(
        &self,
        states_max: usize,
        mut judge: impl FnMut(&Left) -> Result<(), String>,
    ) -> (usize, Option<String>) {
        let plan = CrashPlan { states_max, ..CrashPlan::default() };
        let mut count = 0;
        for cut in self.0.cuts() {
            for state in cut.states(&plan) {
                let mut left = cut.materialise(&state).into_iter().map(Arc::new);
                let media = Media { image: left.next().unwrap(), data: left.next() };
                count += 1;
                if let Err(text) = judge(&Left { position: cut.position(), media }) {
                    return (count, Some(format!("{}: {text}", cut.describe(&state, &NAMES))));
                }
            }
        }
        (count, None)
    }

    /// The events in words, those of the data file marked as such.
    pub(crate) fn text(&self) -> String {
        self.0.text(&NAMES)
    }
}
