//! Random histories with sizes that change, against plain bytes: cut bytes never come back.

use std::sync::Arc;

use block_io::MemoryStorage;
use cow_engine::{Backing, Error, Image, OpenOptions, Preallocation, ResizeOptions, ZeroMode};
use qcow2_format::Version;
use testkit::{ModelDisk, Pattern, Rng};

use crate::census;
use crate::images::{self, options, read_all};
use crate::test_backing::TestBacking;

#[derive(Clone, Copy, Debug)]
struct Shape {
    cluster_bits: u32,
    version: Version,
    /// Length of the layer below.
    backing: Option<u64>,
    /// Largest disk.
    size_max: u64,
}

struct World {
    shape: Shape,
    storage: Arc<MemoryStorage>,
    backing: Option<Arc<dyn Backing>>,
    image: Option<Image>,
    model: ModelDisk,
    stamp: u64,
    resized: usize,
}

impl World {
    fn new(shape: Shape, size: u64) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        cow_engine::create(&*storage, &options(size, shape.cluster_bits, shape.version)).unwrap();
        let mut model = ModelDisk::new(size as usize);
        let backing = shape.backing.map(|len| {
            let bytes = Pattern::new(99).bytes(0, len as usize);
            model = ModelDisk::from_bytes(bytes.clone()).overlay(size as usize);
            Arc::new(TestBacking::new(bytes)) as Arc<dyn Backing>
        });
        let mut world = Self { shape, storage, backing, image: None, model, stamp: 0, resized: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let options = OpenOptions::new().backing(self.backing.clone());
        self.image =
            Some(Image::open(Arc::<MemoryStorage>::clone(&self.storage), options).unwrap());
    }

    fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    fn resize(&mut self, size: u64, how: Preallocation) {
        let present = self.model.len() as u64;
        let how = if size > present { how } else { Preallocation::Off };
        let options = ResizeOptions::new().shrink(true).preallocation(how);
        match self.image.as_mut().unwrap().resize(size, options) {
            Ok(()) => {
                self.model.resize(size as usize);
                self.resized += 1;
            }
            Err(Error::Resize(refusal)) => {
                let longer = self.shape.backing.is_some_and(|len| len > present);
                assert!(self.shape.version == Version::V2 && longer && size > present, "{refusal}");
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(self.image().virtual_size(), self.model.len() as u64);
        // What was resized is durable, and all counts are right.
        census::assert_clean(&images::bytes(&*self.storage));
        self.model.assert_at(0, &read_all(self.image()));
    }

    fn reopen(&mut self) {
        self.image.take().unwrap().close().unwrap();
        census::assert_clean(&images::bytes(&*self.storage));
        self.open();
        self.model.assert_at(0, &read_all(self.image()));
    }

    fn step(&mut self, rng: &mut Rng) {
        let size = self.model.len() as u64;
        let cluster = 1 << self.shape.cluster_bits;
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
                    0 => size / 512 + rng.below(7),
                    1 => (size / 512).saturating_sub(rng.below(7)),
                    _ => rng.below(self.shape.size_max / 512),
                };
                let all = [
                    Preallocation::Off,
                    Preallocation::Metadata,
                    Preallocation::Falloc,
                    Preallocation::Full,
                ];
                self.resize(sectors.max(1) * 512, *rng.pick(&all));
            }
        }
    }

    fn compress(&mut self, offset: u64) {
        let len = (1 << self.shape.cluster_bits).min(self.model.len() as u64 - offset);
        self.stamp += 1;
        let bytes = vec![self.stamp as u8 | 1; len as usize];
        let mut compressor = self.image().compressor().unwrap();
        match self.image().write_compressed_at(&mut compressor, offset, &bytes) {
            Ok(()) => self.model.write(offset, &bytes),
            Err(error) => assert!(matches!(error, Error::Allocated { .. }), "{error}"),
        }
    }
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (cluster_bits, size_max) in [(9, 200 << 10), (10, 600 << 10), (12, 3 << 20), (16, 1 << 20)]
    {
        for version in [Version::V2, Version::V3] {
            for backing in [None, Some(size_max / 2 + 77), Some(size_max + 4096)] {
                shapes.push(Shape { cluster_bits, version, backing, size_max });
            }
        }
    }
    shapes
}

#[test]
fn random_histories_in_memory() {
    let mut rng = Rng::announced(0x7e51);
    let mut resized = 0;
    for shape in shapes() {
        eprintln!("{shape:?}");
        let mut rng = rng.fork();
        let size = (1 + rng.below(shape.size_max / 512)) * 512;
        let mut world = World::new(shape, size);
        for _ in 0..60 {
            world.step(&mut rng);
        }
        world.reopen();
        resized += world.resized;
    }
    assert!(resized > 200, "{resized}");
}
