//! `Player`: does things to an image on recorded media and writes them into the diary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qimg::check::{CheckOptions, Repair, check, repair_dirty};
use qimg::engine::{Error, Image, OpenOptions, Preallocation, ResizeOptions, ZeroMode};
use qimg::format::IncompatibleFeatures;
use qimg::io::{MemoryStorage, Storage};
use testkit::stamps::{SECTOR, ZERO, sectors, stamps};
use testkit::{CrashFile, CrashFiles, Diary, LostSync, Rng};

use super::below::Layers;
use super::recipe::{Data, Recipe};

/// How often what was done; what the image refused does not count.
pub(crate) type Deeds = BTreeMap<&'static str, u64>;

/// Does things to an image and remembers them.
pub(crate) struct Player<'w> {
    pub(crate) recipe: &'w Recipe,
    layers: &'w Layers,
    files: &'w CrashFiles,
    image: Option<Image>,
    diary: Mutex<Diary>,
    next_stamp: Mutex<u64>,
    deeds: Mutex<Deeds>,
    /// Counts may have been postponed.
    pub(crate) may_be_dirty: bool,
    pub(crate) has_resized: bool,
}

/// The media of one life.
pub(crate) fn media(files: &[MemoryStorage], recipe: &Recipe, lost: LostSync) -> CrashFiles {
    CrashFiles::with(files.iter().cloned(), lost, recipe.punches)
}

fn storage(file: &Arc<CrashFile>) -> Arc<dyn Storage> {
    Arc::<CrashFile>::clone(file)
}

impl<'w> Player<'w> {
    /// Opens what the files hold; what the last power cut left dirty is repaired first, and what it
    /// left lost is given back sometimes.
    pub(crate) fn new(
        recipe: &'w Recipe,
        layers: &'w Layers,
        files: &'w CrashFiles,
        start: Vec<u64>,
        rng: &mut Rng,
    ) -> Self {
        let mut player = Self {
            recipe,
            layers,
            files,
            image: None,
            diary: Mutex::new(Diary::new(start)),
            next_stamp: Mutex::new(0),
            deeds: Mutex::default(),
            may_be_dirty: recipe.lazy,
            has_resized: false,
        };
        let image = storage(&files.files()[0]);
        if player.is_marked_dirty() {
            player.may_be_dirty = true;
            repair_dirty(&*image).unwrap();
            player.note("repair");
        } else if rng.one_in(4) {
            let options = CheckOptions { repair: Repair::Leaks, ..CheckOptions::default() };
            check(&*image, options).unwrap();
            player.note("leaks given back");
        }
        player.open(None);
        player
    }

    fn is_marked_dirty(&self) -> bool {
        let header = qimg::engine::read_header(&*self.files.files()[0]).unwrap();
        header.requires(IncompatibleFeatures::DIRTY)
    }

    fn open(&mut self, lazy: Option<bool>) {
        let data = self.files.files().get(1).map(storage);
        let mut options = OpenOptions::new().backing(self.layers.top()).data_file(data);
        options = options.l2_cache_bytes(self.recipe.l2_cache_bytes);
        if let Some(lazy) = lazy {
            options = options.lazy_refcounts(lazy);
            self.may_be_dirty |= lazy;
        }
        self.image = Some(Image::open(storage(&self.files.files()[0]), options).unwrap());
    }

    pub(crate) fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    pub(crate) fn position(&self) -> usize {
        self.files.position()
    }

    pub(crate) fn diary(&self) -> MutexGuard<'_, Diary> {
        self.diary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Size of the disk in sectors.
    pub(crate) fn size(&self) -> usize {
        self.diary().size()
    }

    /// A stamp that nobody has used.
    pub(crate) fn stamp(&self) -> u64 {
        let mut next = self.next_stamp.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    }

    /// Stamps of this life differ from those of the lives before.
    pub(crate) fn begin_life(&self, number: u64) {
        *self.next_stamp.lock().unwrap_or_else(PoisonError::into_inner) = number << 20;
    }

    pub(crate) fn note(&self, deed: &'static str) {
        *self.deeds.lock().unwrap_or_else(PoisonError::into_inner).entry(deed).or_default() += 1;
    }

    /// What was done so far.
    pub(crate) fn deeds(&self) -> Deeds {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something that is in the diary as a change of sectors.
    fn change(
        &self,
        deed: &'static str,
        first: usize,
        count: usize,
        stamp: u64,
        work: impl FnOnce(u64, u64) -> Result<(), Error>,
    ) {
        let change = self.diary().begin(self.position(), first, count, stamp);
        match work((first * SECTOR) as u64, (count * SECTOR) as u64) {
            Ok(()) => {
                self.diary().end(change);
                self.note(deed);
            }
            Err(Error::Allocated { .. }) => self.diary().refused(change),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn write(&self, first: usize, count: usize) {
        let stamp = self.stamp();
        let bytes = sectors(stamp, first, count);
        self.change("write", first, count, stamp, |at, _| self.image().write_at(at, &bytes));
    }

    pub(crate) fn zero(&self, first: usize, count: usize, mode: ZeroMode) {
        let deed = match mode {
            ZeroMode::Unmap => "zeros with unmap",
            _ => "zeros",
        };
        self.change(deed, first, count, ZERO, |at, len| {
            self.image().write_zeroes_at(at, len, mode)
        });
    }

    /// Gives whole clusters up, where the version can say "zeros" about them.
    pub(crate) fn discard(&self, first: usize, count: usize) {
        let (per_cluster, size) = (self.recipe.per_cluster(), self.size());
        let (first, end) = (first.next_multiple_of(per_cluster), first + count);
        let end = if end == size { end } else { end / per_cluster * per_cluster };
        let says_zeros = self.image().dialect().has_zero_flag() || self.layers.stamps.is_empty();
        if first < end && says_zeros {
            let count = end - first;
            self.change("discard", first, count, ZERO, |at, len| self.image().discard_at(at, len));
        }
    }

    /// A compressed write of the whole cluster at `first`, if it is not allocated.
    pub(crate) fn compress(&self, first: usize) {
        let count = self.recipe.per_cluster().min(self.size() - first);
        if self.recipe.data != Data::Inside {
            return;
        }
        let stamp = self.stamp();
        let bytes = sectors(stamp, first, count);
        let mut compressor = self.image().compressor().unwrap();
        self.change("compressed write", first, count, stamp, |at, _| {
            self.image().write_compressed_at(&mut compressor, at, &bytes)
        });
    }

    pub(crate) fn flush(&self) {
        let begun = self.diary().flushing();
        self.image().flush().unwrap();
        self.diary().flushed(begun, self.position());
        self.note("flush");
    }

    pub(crate) fn resize(&mut self, to: usize, preallocation: Preallocation) {
        let (before, files, from) = (self.position(), self.files, self.size());
        let image = self.image.as_mut().unwrap();
        let options = ResizeOptions::new().shrink(true).preallocation(preallocation);
        let diary = self.diary.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut has_resized = false;
        diary.resize(before, to, || match image.resize((to * SECTOR) as u64, options) {
            Ok(()) => {
                has_resized = true;
                Some(files.position())
            }
            Err(Error::Resize(_)) => None,
            Err(error) => panic!("{error}"),
        });
        self.has_resized |= has_resized;
        if has_resized {
            self.note(if to < from { "shrink" } else { "growth" });
        }
    }

    /// Everything is written, in order and durable, and the image says so.
    pub(crate) fn close(&mut self) {
        let begun = self.diary().flushing();
        self.image.take().unwrap().close().unwrap();
        self.diary().flushed(begun, self.position());
        assert!(!self.is_marked_dirty(), "closed, and dirty");
        self.note("close");
    }

    pub(crate) fn reopen(&mut self, lazy: Option<bool>) {
        self.close();
        self.open(lazy);
    }

    /// What the guest sees now is what was done, or, of things done at the same time, either.
    pub(crate) fn look(&self) {
        let mut bytes = vec![0xaa; self.image().virtual_size() as usize];
        self.image().read_at(0, &mut bytes).unwrap();
        let verdict = stamps(&bytes, 0).and_then(|found| self.diary().present().judge(&found));
        assert_eq!(verdict, Ok(()), "through the open image");
    }

    /// Closes, and returns what was done.
    pub(crate) fn finish(mut self) -> Diary {
        self.look();
        self.close();
        self.diary.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
