//! Where a history begins: the files of a new image, and what was done to it before.

use std::sync::Arc;

use qimg::engine::{Image, OpenOptions, create, create_with_data_file};
use qimg::io::{MemoryStorage, Storage};
use testkit::Rng;
use testkit::stamps::{SECTOR, ZERO, sectors};

use super::below::Layers;
use super::recipe::{Data, Recipe, Start};
use super::snapshot::{self, Kept};

/// Stamp of what was written before.
pub(crate) const BEFORE: u64 = 1 << 39;

/// What the first refcount table of the narrowest image can count, in bytes of its file.
const TABLE_REACH: u64 = 64 * 64 * 512;

/// The files of an image (the image file, and a data file if it has one), and what they hold.
pub(crate) struct World {
    pub(crate) files: Vec<MemoryStorage>,
    /// What the disk shows, sector by sector.
    pub(crate) stamps: Vec<u64>,
    /// What the internal snapshot shows, if there is one.
    pub(crate) kept: Option<Kept>,
}

struct Maker<'r> {
    recipe: &'r Recipe,
    image: Image,
    stamps: Vec<u64>,
}

/// Makes an image as its recipe says.
pub(crate) fn make(recipe: &Recipe, layers: &Layers, rng: &mut Rng) -> World {
    let image = Arc::new(MemoryStorage::new());
    let data = (recipe.data != Data::Inside).then(|| Arc::new(MemoryStorage::new()));
    let options = recipe.create_options();
    match &data {
        None => create(&*image, &options),
        Some(data) => create_with_data_file(&*image, &**data, &options),
    }
    .unwrap();
    let mut stamps = layers.stamps.clone();
    stamps.resize(recipe.sectors, ZERO);
    let below = data.clone().map(|data| data as Arc<dyn Storage>);
    let options = OpenOptions::new().backing(layers.top()).data_file(below);
    let opened = Image::open(Arc::<MemoryStorage>::clone(&image), options).unwrap();
    let mut maker = Maker { recipe, image: opened, stamps };
    maker.prepare(&image, rng);
    let stamps = maker.stamps;
    maker.image.close().unwrap();
    let mut files = vec![(*image).clone()];
    files.extend(data.map(|data| (*data).clone()));
    let kept = (recipe.start == Start::Snapshot).then(|| snapshot::take(&mut files[0], &stamps));
    if recipe.autoclear {
        // Bit 5 of the autoclear features at bytes 88 to 95.
        files[0].write_at(95, &[if recipe.data == Data::Raw { 0x22 } else { 0x20 }]).unwrap();
    }
    World { files, stamps, kept }
}

impl Maker<'_> {
    fn prepare(&mut self, file: &MemoryStorage, rng: &mut Rng) {
        match self.recipe.start {
            Start::New => {}
            Start::Compressed => self.compress_all(),
            Start::Used | Start::Snapshot => self.use_up(rng),
            Start::NearlyFull => {
                let room = 1024 + rng.below(12) * 512;
                self.fill(file, TABLE_REACH - room);
            }
        }
    }

    fn write(&mut self, first: usize, count: usize) {
        let bytes = sectors(BEFORE, first, count);
        self.image.write_at((first * SECTOR) as u64, &bytes).unwrap();
        self.stamps[first..first + count].fill(BEFORE);
    }

    fn compress(&mut self, first: usize) {
        let count = self.recipe.per_cluster().min(self.stamps.len() - first);
        let mut compressor = self.image.compressor().unwrap();
        let bytes = sectors(BEFORE, first, count);
        let at = (first * SECTOR) as u64;
        if self.image.write_compressed_at(&mut compressor, at, &bytes).is_ok() {
            self.stamps[first..first + count].fill(BEFORE);
        }
    }

    fn compress_all(&mut self) {
        for first in (0..self.stamps.len()).step_by(self.recipe.per_cluster()) {
            self.compress(first);
        }
    }

    fn use_up(&mut self, rng: &mut Rng) {
        let (count, per_cluster) = (self.stamps.len(), self.recipe.per_cluster());
        for first in (0..count).step_by(per_cluster) {
            match rng.below(4) {
                0 if self.recipe.data == Data::Inside => self.compress(first),
                0 | 1 => {}
                _ => self.write(first, per_cluster.min(count - first)),
            }
        }
        self.image.flush().unwrap();
        for first in (0..count).step_by(per_cluster) {
            let says_zeros = self.image.dialect().has_zero_flag() || self.recipe.below_sectors == 0;
            if says_zeros && rng.one_in(3) {
                let here = per_cluster.min(count - first);
                self.image.discard_at((first * SECTOR) as u64, (here * SECTOR) as u64).unwrap();
                self.stamps[first..first + here].fill(ZERO);
            }
        }
    }

    fn fill(&mut self, file: &MemoryStorage, end: u64) {
        let mut first = 0;
        while let left @ 4.. = end.saturating_sub(file.len().unwrap()) as usize / SECTOR {
            let count = (left / 2).clamp(1, 512);
            self.write(first, count);
            first += count;
        }
    }
}
