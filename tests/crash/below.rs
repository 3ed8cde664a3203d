//! What lies below an image: files that nobody ever writes to, which is asserted.

use std::sync::Arc;

use qimg::engine::{Backing, BelowError, CreateOptions, Image, OpenOptions, create};
use qimg::format::ClusterBits;
use qimg::io::{MemoryStorage, Storage, StorageExt};
use testkit::stamps::{SECTOR, sectors};
use testkit::{CrashStorage, Rng};

use super::recipe::Below;

/// Stamp of what lies below; larger than any write's.
pub(crate) const BELOW: u64 = 1 << 40;

/// A layer below: a raw file, or an image over another layer.
#[derive(Debug)]
struct Layer {
    file: Arc<CrashStorage>,
    image: Option<Image>,
    len: u64,
}

/// The layers below an image.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    files: Vec<Arc<CrashStorage>>,
    top: Option<Arc<dyn Backing>>,
    /// What they show.
    pub(crate) stamps: Vec<u64>,
}

impl Backing for Layer {
    fn virtual_size(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        let inside = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (inside, beyond) = buf.split_at_mut(inside);
        beyond.fill(0);
        match &self.image {
            _ if inside.is_empty() => Ok(()),
            Some(image) => {
                image.read_at(offset, inside).map_err(|error| Arc::new(error) as BelowError)
            }
            None => self
                .file
                .read_zero_filled(offset, inside)
                .map(drop)
                .map_err(|error| Arc::new(error) as BelowError),
        }
    }

    fn reads_as_zeros(&self, offset: u64, len: u64) -> Result<bool, BelowError> {
        // Sometimes known: by the end of the layer, and by the bytes of a raw file.
        if offset >= self.len {
            return Ok(true);
        }
        let mut bytes = vec![0; len as usize];
        self.read_at(offset, &mut bytes)?;
        Ok(self.image.is_none() && bytes.iter().all(|&byte| byte == 0))
    }
}

impl Layers {
    /// Layers of so many sectors, of which about two in three hold bytes.
    pub(crate) fn new(below: Below, count: usize, rng: &mut Rng) -> Self {
        let mut layers = Self { files: Vec::new(), top: None, stamps: Vec::new() };
        if below == Below::Nothing {
            return layers;
        }
        layers.add_raw(count, rng);
        if below == Below::Chain {
            layers.add_image(count, rng);
        }
        layers
    }

    /// The layer that is right below the image.
    pub(crate) fn top(&self) -> Option<Arc<dyn Backing>> {
        self.top.clone()
    }

    fn add(&mut self, file: MemoryStorage, open: impl FnOnce(Arc<dyn Storage>) -> Option<Image>) {
        let file = Arc::new(CrashStorage::on(file));
        let image = open(Arc::<CrashStorage>::clone(&file));
        let len = (self.stamps.len() * SECTOR) as u64;
        self.files.push(Arc::clone(&file));
        self.top = Some(Arc::new(Layer { file, image, len }));
    }

    fn add_raw(&mut self, count: usize, rng: &mut Rng) {
        let mut bytes = Vec::new();
        while self.stamps.len() < count {
            let run = (1 + rng.below(40) as usize).min(count - self.stamps.len());
            let stamp = if rng.one_in(3) { 0 } else { BELOW };
            bytes.extend(sectors(stamp, self.stamps.len(), run));
            self.stamps.resize(self.stamps.len() + run, stamp);
        }
        self.add(MemoryStorage::from(&bytes[..]), |_| None);
    }

    fn add_image(&mut self, count: usize, rng: &mut Rng) {
        let file = Arc::new(MemoryStorage::new());
        let mut options = CreateOptions::new((count * SECTOR) as u64);
        options.cluster_bits = ClusterBits::new(10).unwrap();
        create(&*file, &options).unwrap();
        let below = self.top();
        let written = Arc::<MemoryStorage>::clone(&file);
        let image = Image::open(written, OpenOptions::new().backing(below.clone())).unwrap();
        for _ in 0..3 {
            let first = rng.below(count as u64) as usize;
            let run = (1 + rng.below(30) as usize).min(count - first);
            image.write_at((first * SECTOR) as u64, &sectors(BELOW + 1, first, run)).unwrap();
            self.stamps[first..first + run].fill(BELOW + 1);
        }
        image.close().unwrap();
        self.add((*file).clone(), |file| {
            let options = OpenOptions::new().read_only(true).backing(below);
            Some(Image::open(file, options).unwrap())
        });
    }

    /// Nobody has written to any of the files, whatever was written.
    pub(crate) fn assert_untouched(&self) {
        for file in &self.files {
            assert_eq!(file.log().events(), [], "a backing file was changed");
        }
    }
}
