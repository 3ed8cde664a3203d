//! Random histories against plain bytes: whatever is done to an image, its guest sees what a flat
//! disk would show.

use std::sync::Arc;

use block_io::{Create, FileStorage, Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{Backing, Image, OpenOptions, ZeroMode};
use proptest::prelude::*;
use qcow2_format::Version;
use testkit::{Folder, ModelDisk, Pattern, Qemu, Rng};

use crate::census;
use crate::images::{self, options, read_all};
use crate::test_backing::TestBacking;

/// An image, the layer below it, and what its guest must see.
struct World {
    storage: Arc<dyn Storage>,
    backing: Option<Arc<dyn Backing>>,
    image: Option<Image>,
    model: ModelDisk,
    l2_cache_bytes: u64,
    stamp: u64,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    size: u64,
    cluster_bits: u32,
    version: Version,
    /// Length of the layer below, and whether it knows its zeros.
    backing: Option<(u64, bool)>,
    l2_cache_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { offset: u64, len: u64 },
    WriteZeroBytes { offset: u64, len: u64 },
    Zero { offset: u64, len: u64, mode: ZeroMode },
    Discard { offset: u64, len: u64 },
    Read { offset: u64, len: u64 },
    Flush,
    GiveUp { offset: u64, len: u64 },
    Reopen,
}

impl World {
    fn new(storage: Arc<dyn Storage>, shape: Shape) -> Self {
        let Shape { size, cluster_bits, version, .. } = shape;
        cow_engine::create(&*storage, &options(size, cluster_bits, version)).unwrap();
        let mut model = ModelDisk::new(size as usize);
        let backing = shape.backing.map(|(len, knows)| {
            let mut bytes = Pattern::new(99).bytes(0, len as usize);
            // Some of what lies below is zeros.
            for part in bytes.chunks_mut(3 << cluster_bits) {
                let zeros = part.len().min(1 << cluster_bits);
                part[..zeros].fill(0);
            }
            model = ModelDisk::from_bytes(bytes.clone()).overlay(size as usize);
            let layer = if knows { TestBacking::new(bytes) } else { TestBacking::ignorant(bytes) };
            Arc::new(layer) as Arc<dyn Backing>
        });
        let l2_cache_bytes = shape.l2_cache_bytes;
        let mut world = Self { storage, backing, image: None, model, l2_cache_bytes, stamp: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let options =
            OpenOptions::new().backing(self.backing.clone()).l2_cache_bytes(self.l2_cache_bytes);
        self.image = Some(Image::open(Arc::clone(&self.storage), options).unwrap());
    }

    fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    /// What of a discarded range reads as zeros: its whole clusters, except where version 2 has no
    /// way to say so.
    fn discarded(&self, offset: u64, len: u64) -> (u64, u64) {
        let image = self.image();
        let (cluster, size) = (image.geometry().cluster_bytes(), image.virtual_size());
        if !image.dialect().has_zero_flag() && self.backing.is_some() {
            return (offset, offset);
        }
        let end = offset + len;
        let end = if end == size { size } else { end / cluster * cluster };
        (offset.next_multiple_of(cluster).min(end), end)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { offset, len } => {
                self.stamp += 1;
                let bytes = Pattern::new(self.stamp).bytes(offset, len as usize);
                self.image().write_at(offset, &bytes).unwrap();
                self.model.write(offset, &bytes);
            }
            Step::WriteZeroBytes { offset, len } => {
                self.image().write_at(offset, &vec![0; len as usize]).unwrap();
                self.model.zero(offset, len as usize);
            }
            Step::Zero { offset, len, mode } => {
                self.image().write_zeroes_at(offset, len, mode).unwrap();
                self.model.zero(offset, len as usize);
            }
            Step::Discard { offset, len } => {
                self.image().discard_at(offset, len).unwrap();
                let (start, end) = self.discarded(offset, len);
                self.model.zero(start, end.saturating_sub(start) as usize);
            }
            Step::Read { offset, len } => {
                let found = images::read(self.image(), offset, len as usize);
                self.model.assert_at(offset, &found);
            }
            Step::Flush => self.image().flush().unwrap(),
            Step::GiveUp { offset, len } => drop(self.image().begin_write(offset, len).unwrap()),
            Step::Reopen => {
                self.image.take().unwrap().close().unwrap();
                census::assert_clean(&images::bytes(&*self.storage));
                self.open();
                self.model.assert_at(0, &read_all(self.image()));
            }
        }
    }
}

/// Any range of the disk, short ones and ones on cluster boundaries more often.
fn any_range(rng: &mut Rng, shape: Shape) -> (u64, u64) {
    let (size, cluster) = (shape.size, 1 << shape.cluster_bits);
    let mut offset = rng.below(size);
    let mut len = 1 + match rng.below(4) {
        0 => rng.below(600),
        1 => rng.below(cluster),
        2 => rng.below(5 * cluster),
        _ => rng.below(size / 3),
    };
    if rng.one_in(3) {
        offset -= offset % cluster;
    }
    if rng.one_in(3) {
        len = len.next_multiple_of(cluster);
    }
    (offset, len.min(size - offset))
}

fn any_step(rng: &mut Rng, shape: Shape) -> Step {
    let (offset, len) = any_range(rng, shape);
    match rng.below(20) {
        0..8 => Step::Write { offset, len },
        8 => Step::WriteZeroBytes { offset, len },
        9..11 => Step::Zero { offset, len, mode: ZeroMode::Keep },
        11 | 12 => Step::Discard { offset, len },
        13 | 14 => Step::Zero { offset, len, mode: ZeroMode::Unmap },
        15 | 16 => Step::Read { offset, len },
        17 => Step::Flush,
        18 => Step::GiveUp { offset, len },
        _ => Step::Reopen,
    }
}

fn play(world: &mut World, shape: Shape, rng: &mut Rng, steps: usize) {
    for _ in 0..steps {
        world.step(any_step(rng, shape));
    }
    world.step(Step::Reopen);
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (cluster_bits, size) in [
        (9, 96 << 10),
        (9, 100_352),
        (12, 1 << 20),
        (12, (1 << 20) + 1536),
        (16, 2 << 20),
        (16, 1_500_160),
        (21, 9 << 20),
    ] {
        for version in [Version::V2, Version::V3] {
            let longer = Some((size + 70_000, true));
            let shorter = Some((size * 2 / 3 + 77, true));
            let ignorant = Some((size * 3 / 4 + 1, false));
            for backing in [None, longer, shorter, ignorant] {
                shapes.push(Shape { size, cluster_bits, version, backing, l2_cache_bytes: 0 });
            }
        }
    }
    shapes
}

#[test]
fn random_histories_in_memory() {
    let mut rng = Rng::announced(0x51de);
    for shape in shapes() {
        eprintln!("{shape:?}");
        let mut rng = rng.fork();
        let mut world = World::new(Arc::new(MemoryStorage::new()), shape);
        // Large clusters make large disks, and every byte of them is compared.
        let steps = if shape.cluster_bits > 12 { 12 } else { 50 };
        play(&mut world, shape, &mut rng, steps);
    }
}

#[test]
fn a_small_cache_evicts_and_loses_nothing() {
    let mut rng = Rng::announced(0xcace);
    // 256 slices of 512 bytes; the smallest cache holds 64 of them.
    let shape = Shape {
        size: 8 << 20,
        cluster_bits: 9,
        version: Version::V3,
        backing: Some((3 << 20, true)),
        l2_cache_bytes: 4 * 512,
    };
    let mut world = World::new(Arc::new(MemoryStorage::new()), shape);
    for _ in 0..600 {
        let (offset, len) = (rng.below(shape.size - 700), 1 + rng.below(700));
        let step = match rng.below(8) {
            0 => Step::Zero { offset, len, mode: ZeroMode::Unmap },
            1 => Step::Flush,
            2 => Step::Read { offset, len },
            _ => Step::Write { offset, len },
        };
        world.step(step);
    }
    world.step(Step::Reopen);
}

#[test]
fn random_histories_on_files_agree_with_the_real_tools() {
    let mut rng = Rng::announced(0xf11e);
    let folder = Folder::new();
    for (number, shape) in shapes().into_iter().enumerate().filter(|(number, _)| number % 4 == 0) {
        eprintln!("{shape:?}");
        assert!(shape.backing.is_none());
        let path = folder.path(format!("{number}.qcow2"));
        let file: FileStorage = FileOptions::new()
            .write(true)
            .locking(Locking::Off)
            .create(Create::Truncate)
            .open(&path)
            .unwrap();
        let mut world = World::new(Arc::new(file), shape);
        for _ in 0..2 {
            play(&mut world, shape, &mut rng, 12);
            Qemu::check(&path);
            let raw = folder.write("expected.raw", world.model.bytes());
            Qemu::assert_same(("raw", &raw), ("qcow2", &path));
        }
    }
}

#[test]
fn the_real_tools_see_our_overlays() {
    let mut rng = Rng::announced(0x0e7);
    let folder = Folder::new();
    for (version, cluster_bits) in [(Version::V2, 9), (Version::V3, 12), (Version::V3, 16)] {
        let base = Pattern::new(3).bytes(0, 300_032);
        let base_path = folder.write("base.raw", &base);
        let path = folder.path("top.qcow2");
        let size = 400 << 10;
        let mut create = options(size, cluster_bits, version);
        create.backing = Some(cow_engine::BackingReference {
            name: base_path.to_str().unwrap().to_owned(),
            format: Some("raw".to_owned()),
        });
        let open = || {
            let file = FileOptions::new()
                .write(true)
                .locking(Locking::Off)
                .create(Create::IfMissing)
                .open(&path);
            Arc::new(file.unwrap())
        };
        let storage: Arc<dyn Storage> = open();
        let mut model = ModelDisk::from_bytes(base.clone()).overlay(size as usize);
        cow_engine::create(&*storage, &create).unwrap();
        let layer: Arc<dyn Backing> = Arc::new(TestBacking::ignorant(base));
        let image = Image::open(storage, OpenOptions::new().backing(Some(layer))).unwrap();
        for _ in 0..40 {
            let offset = rng.below(size);
            let len = 1 + rng.below((size - offset).min(20_000));
            if rng.one_in(3) {
                let mode = *rng.pick(&[ZeroMode::Keep, ZeroMode::Unmap]);
                image.write_zeroes_at(offset, len, mode).unwrap();
                model.zero(offset, len as usize);
            } else {
                let bytes = Pattern::new(rng.next_u64()).bytes(offset, len as usize);
                image.write_at(offset, &bytes).unwrap();
                model.write(offset, &bytes);
            }
        }
        image.close().unwrap();
        Qemu::check(&path);
        let raw = folder.write("expected.raw", model.bytes());
        Qemu::assert_same(("raw", &raw), ("qcow2", &path));
    }
}

#[test]
fn compressed_clusters_mix_with_everything_else() {
    let mut rng = Rng::announced(0xc0);
    let shape = Shape {
        size: 256 << 12,
        cluster_bits: 12,
        version: Version::V3,
        backing: Some((200 << 12, true)),
        l2_cache_bytes: 0,
    };
    let mut world = World::new(Arc::new(MemoryStorage::new()), shape);
    for _ in 0..400 {
        if rng.one_in(3) {
            let offset = rng.below(256) << 12;
            // Compressible: one word again and again.
            let word = rng.next_u64().to_be_bytes();
            let bytes = word.repeat(512);
            let mut compressor = world.image().compressor().unwrap();
            match world.image().write_compressed_at(&mut compressor, offset, &bytes) {
                Ok(()) => world.model.write(offset, &bytes),
                Err(error) => assert!(matches!(error, cow_engine::Error::Allocated { .. })),
            }
        } else {
            world.step(any_step(&mut rng, shape));
        }
    }
    world.step(Step::Reopen);
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let cluster_bits = prop_oneof![Just(9_u32), Just(10), Just(12), Just(14)];
    let version = prop_oneof![Just(Version::V2), Just(Version::V3)];
    let backing = prop::option::of((0..200_000_u64, any::<bool>()));
    (1..300_u64, cluster_bits, version, backing).prop_map(
        |(sectors, cluster_bits, version, backing)| Shape {
            size: sectors * 512,
            cluster_bits,
            version,
            backing,
            l2_cache_bytes: 0,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_any_small_image(shape in any_shape(), seed: u64) {
        let mut world = World::new(Arc::new(MemoryStorage::new()), shape);
        play(&mut world, shape, &mut Rng::new(seed), 40);
    }
}
