//! Random histories against plain bytes: whatever is done to an image of whatever kind, its guest
//! sees what a flat disk would show, and its counts fit after every flush.

use std::sync::Arc;

use block_io::{Create, FileStorage, Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{Backing, Error, Image, OpenOptions, Preallocation, ZeroMode};
use proptest::prelude::*;
use qcow2_format::{CompressionType, Version};
use testkit::{Folder, ModelDisk, Pattern, Qemu, Rng};

use crate::census;
use crate::images::{self, options, read_all};
use crate::kinds::{Data, Kind, Media};
use crate::power::{assert_closed, complaint};
use crate::test_backing::TestBacking;

/// An image, the layer below it, and what its guest must see.
struct World<S> {
    shape: Shape,
    media: Media<S>,
    backing: Option<Arc<dyn Backing>>,
    image: Option<Image>,
    model: ModelDisk,
    stamp: u64,
    compressed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    kind: Kind,
    /// Length of the layer below, and whether it knows its zeros.
    backing: Option<(u64, bool)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { offset: u64, len: u64 },
    WriteZeroBytes { offset: u64, len: u64 },
    Zero { offset: u64, len: u64, mode: ZeroMode },
    Discard { offset: u64, len: u64 },
    Compress { offset: u64, clusters: u64 },
    Read { offset: u64, len: u64 },
    Flush,
    GiveUp { offset: u64, len: u64 },
    Reopen,
}

impl<S: Storage + 'static> World<S> {
    /// A new image in these files.
    fn new(media: Media<S>, shape: Shape) -> Self {
        let Kind { size, cluster_bits, .. } = shape.kind;
        shape.kind.create(&media);
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
        let image = Some(shape.kind.open(&media, backing.clone()));
        Self { shape, media, backing, image, model, stamp: 0, compressed: 0 }
    }

    fn image(&self) -> &Image {
        self.image.as_ref().unwrap()
    }

    /// What of a discarded range reads as zeros: its whole clusters, except where version 2 has no
    /// way to say so.
    fn discarded(&self, offset: u64, len: u64) -> (u64, u64) {
        let Kind { size, version, .. } = self.shape.kind;
        let cluster = self.shape.kind.cluster_bytes();
        if version == Version::V2 && self.backing.is_some() {
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
            Step::Compress { offset, clusters } => self.compress(offset, clusters),
            Step::Read { offset, len } => {
                let found = images::read(self.image(), offset, len as usize);
                self.model.assert_at(offset, &found);
            }
            Step::Flush => {
                self.image().flush().unwrap();
                self.judge();
            }
            Step::GiveUp { offset, len } => drop(self.image().begin_write(offset, len).unwrap()),
            Step::Reopen => {
                self.image.take().unwrap().close().unwrap();
                assert_closed(&images::bytes(&*self.media.image));
                self.image = Some(self.shape.kind.open(&self.media, self.backing.clone()));
                self.model.assert_at(0, &read_all(self.image()));
            }
        }
        if let Some(data) = self.media.data.as_ref().filter(|_| self.shape.kind.data == Data::Raw) {
            self.model.assert_at(0, &images::bytes(&**data));
        }
    }

    /// Compressed writes one cluster after the other, until one is in use.
    fn compress(&mut self, offset: u64, clusters: u64) {
        let cluster = self.shape.kind.cluster_bytes();
        let mut compressor = self.image().compressor().unwrap();
        for at in (0..clusters).map(|number| offset + number * cluster) {
            let Some(rest) = self.model.len().checked_sub(at as usize).filter(|rest| *rest > 0)
            else {
                return;
            };
            self.stamp += 1;
            let len = rest.min(cluster as usize);
            let bytes = match self.stamp % 5 {
                // Does not get smaller.
                0 => Pattern::new(self.stamp).bytes(at, len),
                _ => self.stamp.to_be_bytes().repeat(len / 8),
            };
            match self.image().write_compressed_at(&mut compressor, at, &bytes) {
                Ok(()) => {
                    self.model.write(at, &bytes);
                    self.compressed += 1;
                }
                Err(Error::Allocated { .. }) => {}
                Err(Error::Plan { .. }) if self.media.data.is_some() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What is on the disk after a flush.
    fn judge(&self) {
        let census = census::take(&images::bytes(&*self.media.image));
        assert_eq!(complaint(&census), None);
        assert!(self.shape.kind.lazy_refcounts || !census.dirty, "marked dirty");
        let image = self.media.open_read_only(self.backing.clone()).unwrap();
        self.model.assert_at(0, &read_all(&image));
    }
}

/// Any range of the disk, short ones and ones on cluster boundaries more often.
fn any_range(rng: &mut Rng, kind: Kind) -> (u64, u64) {
    let (size, cluster) = (kind.size, kind.cluster_bytes());
    let mut offset = rng.below(size);
    let mut len = 1 + match rng.below(4) {
        0 => rng.below(600),
        1 => rng.below(cluster),
        2 => rng.below(5 * cluster),
        _ => rng.below(size / 3),
    };
    // Clusters as a whole, or subclusters.
    let unit = if kind.extended_l2 && rng.one_in(2) { cluster / 32 } else { cluster };
    if rng.one_in(3) {
        offset -= offset % unit;
    }
    if rng.one_in(3) {
        len = len.next_multiple_of(unit);
    }
    (offset, len.min(size - offset))
}

fn any_step(rng: &mut Rng, kind: Kind) -> Step {
    let (offset, len) = any_range(rng, kind);
    match rng.below(22) {
        0..8 => Step::Write { offset, len },
        8 => Step::WriteZeroBytes { offset, len },
        9..11 => Step::Zero { offset, len, mode: ZeroMode::Keep },
        11 | 12 => Step::Discard { offset, len },
        13 | 14 => Step::Zero { offset, len, mode: ZeroMode::Unmap },
        15 | 16 => Step::Read { offset, len },
        17 => Step::Flush,
        18 => Step::GiveUp { offset, len },
        19 | 20 => {
            let offset = offset / kind.cluster_bytes() * kind.cluster_bytes();
            Step::Compress { offset, clusters: 1 + rng.below(3) }
        }
        _ => Step::Reopen,
    }
}

fn play<S: Storage + 'static>(world: &mut World<S>, rng: &mut Rng, steps: usize) {
    for _ in 0..steps {
        world.step(any_step(rng, world.shape.kind));
    }
    world.step(Step::Reopen);
}

/// Plays a new image of this shape in memory.
fn play_in_memory(shape: Shape, rng: &mut Rng, steps: usize) {
    eprintln!("{shape:?}");
    let mut rng = rng.fork();
    let media = Media {
        image: Arc::new(MemoryStorage::new()),
        data: (shape.kind.data != Data::Inside).then(|| Arc::new(MemoryStorage::new())),
    };
    play(&mut World::new(media, shape), &mut rng, steps);
}

/// Over nothing and over layers that are longer, shorter, and shorter without knowing their zeros.
fn over_everything(kind: Kind) -> impl Iterator<Item = Shape> {
    let size = kind.size;
    let longer = Some((size + 70_000, true));
    let shorter = Some((size * 2 / 3 + 77, true));
    let ignorant = Some((size * 3 / 4 + 1, false));
    [None, longer, shorter, ignorant].into_iter().map(move |backing| Shape { kind, backing })
}

/// Large clusters make large disks, and every byte of them is compared.
fn steps_for(kind: Kind) -> usize {
    match kind.cluster_bits {
        ..=12 => 50,
        13..=16 => 14,
        _ => 8,
    }
}

const SIZES: [(u32, u64); 7] = [
    (9, 96 << 10),
    (9, 100_352),
    (12, 1 << 20),
    (12, (1 << 20) + 1536),
    (16, 2 << 20),
    (16, 1_500_160),
    (21, 9 << 20),
];

#[test]
fn random_histories_of_standard_images() {
    let mut rng = Rng::announced(0x51de);
    for (cluster_bits, size) in SIZES {
        for version in [Version::V2, Version::V3] {
            let kind = Kind { version, ..Kind::standard(size, cluster_bits) };
            for shape in over_everything(kind) {
                play_in_memory(shape, &mut rng, steps_for(kind));
            }
        }
    }
}

#[test]
fn random_histories_of_images_with_subclusters() {
    let mut rng = Rng::announced(0xe02);
    for (cluster_bits, size) in
        [(14, 300 << 10), (14, (400 << 10) + 512), (16, (1 << 20) + 1536), (21, (5 << 20) + 512)]
    {
        let kind = Kind::extended(size, cluster_bits);
        let prepared = Kind { preallocation: Preallocation::Metadata, ..kind };
        for shape in over_everything(kind).chain(over_everything(prepared)) {
            let steps = if cluster_bits == 14 { 60 } else { steps_for(kind) };
            play_in_memory(shape, &mut rng, steps);
        }
    }
}

#[test]
fn random_histories_with_counts_of_every_width() {
    let mut rng = Rng::announced(0x31d7);
    for order in 0..=6 {
        for (cluster_bits, size) in [(9, 200 << 10), (12, (1 << 20) + 1536)] {
            let kind = Kind::standard(size, cluster_bits).width(order);
            let steps = steps_for(kind);
            for shape in over_everything(kind).take(2) {
                play_in_memory(shape, &mut rng, steps);
            }
            play_in_memory(Shape { kind: kind.lazy(), backing: None }, &mut rng, steps);
        }
        let kind = Kind::extended(300 << 10, 14).width(order);
        play_in_memory(Shape { kind, backing: Some((100_000, true)) }, &mut rng, 40);
    }
    for order in [0, 6] {
        let kind = Kind::standard(6 << 20, 21).width(order);
        play_in_memory(Shape { kind, backing: None }, &mut rng, steps_for(kind));
    }
}

#[test]
fn random_histories_of_images_with_a_data_file() {
    let mut rng = Rng::announced(0xda7a);
    for kind in [
        Kind::standard((200 << 10) + 512, 9),
        Kind::standard((1 << 20) + 1536, 16),
        Kind::extended((300 << 10) + 512, 14),
        Kind::standard((1 << 20) + 512, 12).lazy(),
    ] {
        for shape in over_everything(kind.with_data(Data::Outside)) {
            play_in_memory(shape, &mut rng, 40);
        }
        let prepared = Kind { preallocation: Preallocation::Metadata, ..kind };
        for kind in [kind.with_data(Data::Raw), prepared.with_data(Data::Outside)] {
            play_in_memory(Shape { kind, backing: None }, &mut rng, 40);
        }
    }
}

#[test]
fn random_histories_of_zstd_and_lazy_images() {
    let mut rng = Rng::announced(0x25d);
    for kind in [Kind::standard(300 << 10, 12), Kind::extended(600 << 10, 14)] {
        let zstd = Kind { compression: CompressionType::Zstd, ..kind };
        for kind in [zstd, kind.lazy(), zstd.lazy()] {
            for shape in over_everything(kind) {
                play_in_memory(shape, &mut rng, 40);
            }
        }
    }
}

#[test]
fn a_small_cache_evicts_and_loses_nothing() {
    let mut rng = Rng::announced(0xcace);
    // 256 or more slices of 512 bytes; the smallest cache holds 64 of them.
    let small = Kind { l2_cache_bytes: 4 * 512, ..Kind::standard(8 << 20, 9) };
    for kind in [small, small.lazy(), small.with_data(Data::Outside).lazy()] {
        let shape = Shape { kind, backing: Some((3 << 20, true)) };
        let media = kind.memory();
        let mut world = World::new(media, shape);
        for _ in 0..400 {
            let (offset, len) = (rng.below(kind.size - 700), 1 + rng.below(700));
            let step = match rng.below(40) {
                0..5 => Step::Zero { offset, len, mode: ZeroMode::Unmap },
                5 => Step::Flush,
                6..10 => Step::Read { offset, len },
                _ => Step::Write { offset, len },
            };
            world.step(step);
        }
        world.step(Step::Reopen);
    }
}

fn file(folder: &Folder, name: &str) -> FileStorage {
    FileOptions::new()
        .write(true)
        .locking(Locking::Off)
        .create(Create::Truncate)
        .open(folder.path(name))
        .unwrap()
}

#[test]
fn random_histories_on_files_agree_with_the_real_tools() {
    let mut rng = Rng::announced(0xf11e);
    let folder = Folder::new();
    let mut kinds: Vec<Kind> = SIZES.map(|(bits, size)| Kind::standard(size, bits)).to_vec();
    let old = kinds.iter().map(|kind| Kind { version: Version::V2, ..*kind }).collect::<Vec<_>>();
    kinds.extend(old);
    let (small, extended) = (Kind::standard(100_352, 9), Kind::extended(700_416, 14));
    kinds.extend((0..=6).map(|order| small.width(order)));
    kinds.extend([extended, extended.lazy(), small.lazy().width(2), Kind::extended(9 << 20, 21)]);
    kinds.extend([Data::Outside, Data::Raw].map(|data| small.with_data(data)));
    kinds.extend([Data::Outside, Data::Raw].map(|data| extended.with_data(data)));
    kinds.push(Kind { preallocation: Preallocation::Metadata, ..extended });
    kinds.push(Kind { compression: CompressionType::Zstd, ..extended });
    for (number, kind) in kinds.into_iter().enumerate() {
        eprintln!("{kind:?}");
        let (name, data) = (format!("{number}.qcow2"), format!("{number}.data"));
        let media = Media {
            image: Arc::new(file(&folder, &name)),
            data: (kind.data != Data::Inside).then(|| Arc::new(file(&folder, &data))),
        };
        let mut node = format!("driver=qcow2,file.filename={}", folder.path(&name).display());
        if media.data.is_some() {
            node.push_str(&format!(",data-file.filename={}", folder.path(&data).display()));
        }
        let mut world = World::new(media, Shape { kind, backing: None });
        for _ in 0..2 {
            play(&mut world, &mut rng, 12);
            let output = Qemu::img(["check", "--image-opts", &node]).success();
            assert!(output.stdout.contains("No errors were found on the image."), "{output:?}");
            let raw = folder.write("expected.raw", world.model.bytes());
            let raw = format!("driver=raw,file.filename={}", raw.display());
            Qemu::img(["compare", "--image-opts", &raw, &node]).success();
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

fn any_kind() -> impl Strategy<Value = Kind> {
    let cluster_bits = prop_oneof![Just(9_u32), Just(10), Just(12), Just(14)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let data = prop_oneof![3 => Just(Data::Inside), 1 => Just(Data::Outside), 1 => Just(Data::Raw)];
    (1..300_u64, cluster_bits, 0..=6_u32, flags, data).prop_map(
        |(sectors, cluster_bits, order, (old, extended, lazy, zstd), data)| {
            let mut kind = Kind::standard(sectors * 512, cluster_bits).width(order).with_data(data);
            kind.extended_l2 = extended && cluster_bits >= 14;
            kind.lazy_refcounts = lazy;
            if zstd {
                kind.compression = CompressionType::Zstd;
            }
            // Version 2 has none of this.
            if old {
                Kind { version: Version::V2, ..Kind::standard(kind.size, cluster_bits) }
            } else {
                kind
            }
        },
    )
}

fn any_shape() -> impl Strategy<Value = Shape> {
    (any_kind(), prop::option::of((0..200_000_u64, any::<bool>()))).prop_map(|(kind, backing)| {
        Shape { kind, backing: backing.filter(|_| kind.data != Data::Raw) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_any_small_image(shape in any_shape(), seed: u64) {
        play_in_memory(shape, &mut Rng::new(seed), 40);
    }
}
