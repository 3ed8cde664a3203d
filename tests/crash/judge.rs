//! `Judge`: what must hold of whatever a power cut leaves.

use std::sync::Arc;

use qimg::check::{CheckOptions, Outcome, check, repair_dirty};
use qimg::engine::{Error, Image, OpenOptions};
use qimg::io::{MemoryStorage, Storage, StorageExt};
use testkit::stamps::{SECTOR, sectors, stamps};
use testkit::{Allowed, Diary, census};

use super::below::Layers;
use super::recipe::Recipe;
use super::reference;
use super::snapshot::Kept;

/// Stamp of what is written to an image after a power cut to see whether it still works.
const AFTER: u64 = 1 << 41;

/// What must hold of the states of one life.
pub(crate) struct Judge<'l> {
    pub(crate) recipe: &'l Recipe,
    pub(crate) layers: &'l Layers,
    pub(crate) kept: Option<&'l Kept>,
    pub(crate) may_be_dirty: bool,
    pub(crate) has_resized: bool,
}

/// What may be there after a power cut, in each view of the disk.
pub(crate) struct Views {
    disk: Allowed,
    /// In the data file, if that is a raw image of its own.
    raw: Option<Allowed>,
}

impl Views {
    /// After a power cut at a position; the raw file began with these stamps.
    pub(crate) fn at(position: usize, diary: &Diary, raw_start: Option<&[u64]>) -> Self {
        let raw = |start: &[u64]| diary.seen_otherwise(start.to_vec()).allowed(position);
        Self { disk: diary.allowed(position), raw: raw_start.map(raw) }
    }
}

/// What a state that passed is like.
pub(crate) struct Passed {
    /// What the disk shows.
    pub(crate) stamps: Vec<u64>,
    /// What a data file shows that is a raw image of the disk.
    pub(crate) raw: Option<Vec<u64>>,
    pub(crate) leaks: u64,
    pub(crate) dirty: bool,
}

fn words(error: &impl ToString) -> String {
    error.to_string()
}

impl Judge<'_> {
    /// Judges one state.
    pub(crate) fn state(&self, files: &[MemoryStorage], allowed: &Views) -> Result<Passed, String> {
        let census = census::take(&files[0]);
        if let Some(text) = census.complaint() {
            return Err(text);
        }
        if census.dirty && !self.may_be_dirty {
            return Err("marked dirty, although no count may be postponed".to_owned());
        }
        let stamps = self.shown(files)?;
        allowed.disk.judge(&stamps)?;
        let raw = match &allowed.raw {
            Some(allowed) => Some(self.raw_file(&files[1], stamps.len(), allowed)?),
            None => None,
        };
        if let Some(kept) = self.kept {
            kept.judge(&files[0], self.layers.top())?;
        }
        Ok(Passed { stamps, raw, leaks: census.leaks, dirty: census.dirty })
    }

    fn open(&self, files: &[MemoryStorage], read_only: bool) -> Result<Image, Error> {
        let mut files = files.iter().map(|file| Arc::new(file.clone()) as Arc<dyn Storage>);
        let image = files.next().unwrap();
        let options = OpenOptions::new().read_only(read_only).backing(self.layers.top());
        Image::open(image, options.data_file(files.next()))
    }

    /// The stamps that the disk shows.
    pub(crate) fn shown(&self, files: &[MemoryStorage]) -> Result<Vec<u64>, String> {
        let image = self.open(files, true).map_err(|error| words(&error))?;
        let mut bytes = vec![0xaa; image.virtual_size() as usize];
        image.read_at(0, &mut bytes).map_err(|error| words(&error))?;
        stamps(&bytes, 0)
    }

    /// A data file that is a raw image shows the same disk; where its size has changed it may be
    /// longer. Returns what it shows.
    fn raw_file(
        &self,
        file: &MemoryStorage,
        size: usize,
        allowed: &Allowed,
    ) -> Result<Vec<u64>, String> {
        let len = file.len().unwrap();
        let expected = (size * SECTOR) as u64;
        if len < expected || len > expected && !self.has_resized {
            return Err(format!("CE-7: the raw file has {len:#x} bytes, not {expected:#x}"));
        }
        let mut bytes = vec![0; size * SECTOR];
        file.read_exact_at(0, &mut bytes).unwrap();
        let found = stamps(&bytes, 0)?;
        allowed.judge(&found).map_err(|text| format!("CE-7, in the raw file: {text}"))?;
        Ok(found)
    }

    /// Goes on where the cut has left off: our own check and repair, then writing.
    pub(crate) fn goes_on(&self, files: &[MemoryStorage], passed: &Passed) -> Result<(), String> {
        // The copies of these share bytes with the state until they are written.
        let files: Vec<MemoryStorage> = files.to_vec();
        if passed.dirty {
            let refused = self.open(&files, false).err();
            if !matches!(refused, Some(Error::MarkedDirty)) {
                return Err(format!("a dirty image is opened for writing: {refused:?}"));
            }
            repair_dirty(&files[0]).map_err(|error| words(&error))?;
        }
        let report = check(&files[0], CheckOptions::default()).map_err(|error| words(&error))?;
        let sound = matches!(report.outcome(), Outcome::Consistent | Outcome::Leaks);
        // What is counted behind the end of the file is no leak to it.
        if !sound || report.leaks > if passed.dirty { 0 } else { passed.leaks } {
            return Err(format!("our check finds {} leaks, {:?}", report.leaks, report.findings));
        }
        if self.shown(&files)? != passed.stamps {
            return Err("the repair changed what the guest sees".to_owned());
        }
        self.writes_on(&files, passed)
    }

    fn writes_on(&self, files: &[MemoryStorage], passed: &Passed) -> Result<(), String> {
        let data: Vec<Arc<MemoryStorage>> =
            files.iter().map(|file| Arc::new(file.clone())).collect();
        let storage =
            |file: &Arc<MemoryStorage>| Arc::<MemoryStorage>::clone(file) as Arc<dyn Storage>;
        let options = OpenOptions::new().backing(self.layers.top());
        let options = options.data_file(data.get(1).map(storage));
        let image = Image::open(storage(&data[0]), options).map_err(|error| words(&error))?;
        let mut expected = passed.stamps.clone();
        let (size, per_cluster) = (expected.len(), self.recipe.per_cluster());
        for first in (0..size).step_by(per_cluster * 2 + 1) {
            let count = 2.min(size - first);
            let bytes = sectors(AFTER, first, count);
            image.write_at((first * SECTOR) as u64, &bytes).map_err(|error| words(&error))?;
            expected[first..first + count].fill(AFTER);
        }
        image.close().map_err(|error| words(&error))?;
        let left: Vec<MemoryStorage> = data.iter().map(|file| (**file).clone()).collect();
        let census = census::take(&left[0]);
        if let Some(text) = census.complaint() {
            return Err(format!("written on: {text}"));
        }
        if self.shown(&left)? != expected {
            return Err("written on, the disk shows something else".to_owned());
        }
        Ok(())
    }

    /// The real tool judges, too.
    pub(crate) fn reference(&self, files: &[MemoryStorage], passed: &Passed) -> Result<(), String> {
        let repaired = reference::check(files, passed.dirty)?;
        match repaired {
            Some(files) if self.shown(&files)? != passed.stamps => {
                Err("the real tool's repair changed what the guest sees".to_owned())
            }
            _ => Ok(()),
        }
    }
}
