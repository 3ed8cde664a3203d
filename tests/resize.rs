//! Sizes that change, over every kind of image: random histories against plain bytes, with our own
//! check after each of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{
    Backing, BelowError, CreateOptions, DataFileReference, Error, Image, OpenOptions,
    Preallocation, ResizeOptions, ZeroMode,
};
use qcow2_format::{ClusterBits, CompressionType, RefcountOrder, Version};
use qimg::check::{CheckOptions, Outcome, check};
use testkit::{ModelDisk, Pattern, Rng};

const PREALLOCATIONS: [Preallocation; 4] =
    [Preallocation::Off, Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];

/// A layer below that is nothing but its bytes.
#[derive(Debug)]
struct Below(ModelDisk);

impl Backing for Below {
    fn virtual_size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), BelowError> {
        let rest = self.0.bytes().get(offset as usize..).unwrap_or_default();
        let inside = rest.len().min(buf.len());
        buf[..inside].copy_from_slice(&rest[..inside]);
        buf[inside..].fill(0);
        Ok(())
    }

    fn reads_as_zeros(&self, _: u64, _: u64) -> Result<bool, BelowError> {
        Ok(false)
    }
}

struct World {
    options: CreateOptions,
    storage: Arc<MemoryStorage>,
    data: Option<Arc<MemoryStorage>>,
    backing: Option<Arc<dyn Backing>>,
    image: Option<Image>,
    model: ModelDisk,
    size_max: u64,
    stamp: u64,
    resized: usize,
}

fn any_options(rng: &mut Rng) -> CreateOptions {
    let mut options = CreateOptions::new(0);
    options.version = if rng.one_in(5) { Version::V2 } else { Version::V3 };
    options.cluster_bits = ClusterBits::new(*rng.pick(&[9, 10, 12, 14, 14, 16])).unwrap();
    if options.version == Version::V3 {
        options.refcount_order = RefcountOrder::new(*rng.pick(&[0, 1, 2, 3, 4, 4, 5, 6])).unwrap();
        options.extended_l2 = options.cluster_bits.get() >= 14 && !rng.one_in(3);
        options.lazy_refcounts = rng.one_in(3);
        options.compression_type = *rng.pick(&[CompressionType::Deflate, CompressionType::Zstd]);
        let raw = rng.one_in(2);
        options.data_file =
            rng.one_in(3).then(|| DataFileReference { name: "data".to_owned(), raw });
    }
    options
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let mut options = any_options(rng);
        let size_max = (300 << options.cluster_bits.get()).min(3 << 20);
        let size = (1 + rng.below(size_max / 512)) * 512;
        options.virtual_size = size;
        let raw = options.data_file.as_ref().is_some_and(|data| data.raw);
        let below = (!raw && rng.one_in(2)).then(|| rng.below(size_max) as usize);
        if below.is_none() || options.extended_l2 {
            options.preallocation = *rng.pick(&PREALLOCATIONS);
        }
        let storage = Arc::new(MemoryStorage::new());
        let data = options.data_file.as_ref().map(|_| Arc::new(MemoryStorage::new()));
        match &data {
            Some(data) => {
                drop(cow_engine::create_with_data_file(&*storage, &**data, &options).unwrap());
            }
            None => drop(cow_engine::create(&*storage, &options).unwrap()),
        }
        let mut model = ModelDisk::new(size as usize);
        let backing = below.map(|len| {
            let below = ModelDisk::from_bytes(Pattern::new(99).bytes(0, len));
            model = below.overlay(size as usize);
            Arc::new(Below(below)) as Arc<dyn Backing>
        });
        let (image, stamp, resized) = (None, 0, 0);
        let mut world =
            Self { options, storage, data, backing, image, model, size_max, stamp, resized };
        world.open();
        world
    }

    fn open(&mut self) {
        let data = self.data.clone().map(|data| data as Arc<dyn Storage>);
        let options = OpenOptions::new().backing(self.backing.clone()).data_file(data);
        let storage: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&self.storage);
        self.image = Some(Image::open(storage, options).unwrap());
    }

    fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    #[track_caller]
    fn assert_right(&self) {
        let mut found = vec![0xaa; self.image().virtual_size() as usize];
        self.image().read_at(0, &mut found).unwrap();
        assert_eq!(found.len(), self.model.len());
        self.model.assert_at(0, &found);
        let report = check(&*self.storage, CheckOptions::default()).unwrap();
        assert_eq!(report.outcome(), Outcome::Consistent, "{report:?}");
        let Some(data) = &self.data else { return };
        let (found, size) = (data.to_vec(), self.model.len());
        // Whole clusters are written, also the one in which the disk ends.
        let most = size.next_multiple_of(1 << self.options.cluster_bits.get());
        assert!((size..=most).contains(&found.len()), "{} for {size}", found.len());
        if self.options.data_file.as_ref().is_some_and(|data| data.raw) {
            self.model.assert_at(0, &found[..size]);
            assert!(found[size..].iter().all(|&byte| byte == 0));
        }
    }

    fn resize(&mut self, size: u64, how: Preallocation) {
        let present = self.model.len() as u64;
        let how = if size > present { how } else { Preallocation::Off };
        let options = ResizeOptions::new().shrink(true).preallocation(how);
        match self.image.as_mut().unwrap().resize(size, options) {
            // Nothing is written: with lazy refcounts the counts go on waiting.
            Ok(()) if size == present => return,
            Ok(()) => {
                self.model.resize(size as usize);
                self.resized += 1;
            }
            Err(Error::Resize(refusal)) => {
                let longer = self.backing.as_ref().is_some_and(|b| b.virtual_size() > present);
                let version_2 = self.options.version == Version::V2;
                assert!(version_2 && longer && size > present, "{refusal}");
                return;
            }
            Err(error) => panic!("{error}"),
        }
        self.assert_right();
    }

    fn reopen(&mut self) {
        self.image.take().unwrap().close().unwrap();
        self.open();
        self.assert_right();
    }

    fn step(&mut self, rng: &mut Rng) {
        let size = self.model.len() as u64;
        let cluster = 1 << self.options.cluster_bits.get();
        let offset = rng.below(size);
        let len = (1 + rng.below(3 * cluster)).min(size - offset);
        match rng.below(12) {
            0..5 => {
                self.stamp += 1;
                let bytes = Pattern::new(self.stamp).bytes(offset, len as usize);
                self.image().write_at(offset, &bytes).unwrap();
                self.model.write(offset, &bytes);
            }
            5 => {
                let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                self.image().write_zeroes_at(offset, len, mode).unwrap();
                self.model.zero(offset, len as usize);
            }
            6 => self.compress(offset / cluster * cluster),
            7 => self.reopen(),
            8 => self.image().flush().unwrap(),
            _ => {
                let sectors = match rng.below(3) {
                    0 => size / 512 + rng.below(40),
                    1 => (size / 512).saturating_sub(rng.below(40)),
                    _ => rng.below(self.size_max / 512),
                };
                self.resize(sectors.max(1) * 512, *rng.pick(&PREALLOCATIONS));
            }
        }
    }

    fn compress(&mut self, offset: u64) {
        if self.data.is_some() {
            return;
        }
        let len = (1 << self.options.cluster_bits.get()).min(self.model.len() as u64 - offset);
        self.stamp += 1;
        let bytes = vec![self.stamp as u8 | 1; len as usize];
        let mut compressor = self.image().compressor().unwrap();
        match self.image().write_compressed_at(&mut compressor, offset, &bytes) {
            Ok(()) => self.model.write(offset, &bytes),
            Err(error) => assert!(matches!(error, Error::Allocated { .. }), "{error}"),
        }
    }
}

#[test]
fn random_histories_over_every_kind_of_image() {
    let mut rng = Rng::announced(0x7e52);
    let mut resized = 0;
    for round in 0..40 {
        let mut rng = rng.fork();
        let mut world = World::new(&mut rng);
        eprintln!(
            "{round}: {:?}, below {:?}",
            world.options,
            world.backing.as_ref().map(|b| b.virtual_size())
        );
        for _ in 0..40 {
            world.step(&mut rng);
        }
        world.reopen();
        resized += world.resized;
    }
    assert!(resized > 300, "{resized}");
}
