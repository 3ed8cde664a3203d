//! Chains made by the real tools and by us, with what they must show.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use block_io::{Create, OpenOptions as FileOptions};
use chain::{Chain, Format, OpenOptions};
use cow_engine::{BackingReference, CreateOptions};
use qcow2_format::{ClusterBits, CompressionType, Version};
use testkit::{Folder, ModelChain, ModelDisk, Qemu, Rng};

use crate::operation::{Operation, by_qemu};

/// What a qcow2 layer is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) size: u64,
    pub(crate) cluster_bits: u32,
    pub(crate) version_2: bool,
    pub(crate) zstd: bool,
    /// Made and written by us instead of the real tools.
    pub(crate) ours: bool,
}

impl Shape {
    pub(crate) fn of(size: u64) -> Self {
        Self { size, cluster_bits: 16, version_2: false, zstd: false, ours: false }
    }

    pub(crate) fn random(rng: &mut Rng, size: u64, cluster_bits: &[u32]) -> Self {
        let version_2 = rng.one_in(4);
        let cluster_bits = *rng.pick(cluster_bits);
        Self {
            size,
            cluster_bits,
            version_2,
            zstd: !version_2 && rng.one_in(2),
            ours: rng.one_in(2),
        }
    }

    pub(crate) fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }
}

/// A chain in a folder, and what each of its layers must show.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) folder: Folder,
    /// Base first.
    pub(crate) layers: Vec<(PathBuf, Format)>,
    pub(crate) model: ModelChain,
}

impl Built {
    /// A chain of one raw layer with this content; blocks of zeros become holes.
    pub(crate) fn on_raw(content: &[u8]) -> Self {
        let folder = Folder::new();
        let path = folder.path("base.raw");
        let file = File::create(&path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        for (index, block) in content.chunks(4096).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(block, index as u64 * 4096).unwrap();
            }
        }
        let mut disk = content.to_vec();
        disk.resize(content.len().next_multiple_of(512), 0);
        let model = ModelChain::new(ModelDisk::from_bytes(disk));
        Self { folder, layers: vec![(path, Format::Raw)], model }
    }

    /// A chain of one empty qcow2 layer.
    pub(crate) fn on_qcow2(shape: Shape) -> Self {
        let model = ModelChain::new(ModelDisk::new(shape.size as usize));
        let mut built = Self { folder: Folder::new(), layers: Vec::new(), model };
        built.create(shape);
        built
    }

    /// Puts an empty overlay on top.
    pub(crate) fn push(&mut self, shape: Shape) -> &mut Self {
        self.model.push(shape.size as usize);
        self.create(shape);
        self
    }

    fn create(&mut self, shape: Shape) {
        let path = self.folder.path(format!("layer-{}.qcow2", self.layers.len()));
        let backing = self.layers.last().map(|(path, format)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, format.name())
        });
        match shape.ours {
            true => create_ours(&path, shape, backing),
            false => create_theirs(&path, shape, backing),
        }
        self.layers.push((path, Format::Qcow2));
    }

    /// Changes the top layer.
    pub(crate) fn change(&mut self, ours: bool, operations: &[Operation]) -> &mut Self {
        let (path, format) = self.layers.last().unwrap();
        if ours {
            let chain = Chain::open(path, &OpenOptions::new().format(*format)).unwrap();
            operations.iter().for_each(|operation| operation.on_chain(&chain));
            chain.close().unwrap();
        } else {
            by_qemu(&self.folder, format.name(), path, operations);
        }
        operations.iter().for_each(|operation| operation.on_model(self.model.active_mut()));
        self
    }

    /// The top layer's file.
    pub(crate) fn top(&self) -> &Path {
        &self.layers.last().unwrap().0
    }

    /// Opens the top for reading.
    pub(crate) fn open(&self) -> Chain {
        self.open_layer(self.layers.len() - 1)
    }

    /// Opens one layer (0 is the base) with what lies below for reading.
    pub(crate) fn open_layer(&self, index: usize) -> Chain {
        let (path, format) = &self.layers[index];
        Chain::open(path, &OpenOptions::new().format(*format).read_only(true)).unwrap()
    }

    /// Opens the top for writing.
    pub(crate) fn open_writable(&self) -> Chain {
        let (path, format) = self.layers.last().unwrap();
        Chain::open(path, &OpenOptions::new().format(*format)).unwrap()
    }

    /// Asserts that the real tools find every layer sound, and that the top shows what the
    /// model does, to us and to them.
    #[track_caller]
    pub(crate) fn assert_shows_model(&self) {
        for (path, format) in &self.layers {
            if *format == Format::Qcow2 {
                Qemu::check(path);
            }
        }
        let chain = self.open();
        self.model.active().assert_at(0, &read_all(&chain));
        let raw = self.folder.path("converted.raw");
        let (top, format) = self.layers.last().unwrap();
        let names = [top.to_str().unwrap(), raw.to_str().unwrap()];
        Qemu::img(["convert", "-f", format.name(), "-O", "raw", names[0], names[1]]).success();
        self.model.active().assert_at(0, &std::fs::read(&raw).unwrap());
    }
}

/// Everything that a chain shows.
pub(crate) fn read_all(chain: &Chain) -> Vec<u8> {
    let mut bytes = vec![0xaa; chain.virtual_size() as usize];
    chain.read_at(0, &mut bytes).unwrap();
    bytes
}

fn create_ours(path: &Path, shape: Shape, backing: Option<(String, &str)>) {
    let mut options = CreateOptions::new(shape.size);
    options.cluster_bits = ClusterBits::new(shape.cluster_bits).unwrap();
    if shape.version_2 {
        options.version = Version::V2;
    }
    if shape.zstd {
        options.compression_type = CompressionType::Zstd;
    }
    options.backing =
        backing.map(|(name, format)| BackingReference { name, format: Some(format.to_owned()) });
    let storage = FileOptions::new().write(true).create(Create::New).open(path).unwrap();
    cow_engine::create(&storage, &options).unwrap();
}

fn create_theirs(path: &Path, shape: Shape, backing: Option<(String, &str)>) {
    let options = format!(
        "cluster_size={},compat={},compression_type={}",
        shape.cluster(),
        if shape.version_2 { "0.10" } else { "1.1" },
        if shape.zstd { "zstd" } else { "zlib" }
    );
    let mut args = vec!["create".to_owned(), "-f".to_owned(), "qcow2".to_owned()];
    args.extend(["-o".to_owned(), options]);
    if let Some((name, format)) = backing {
        args.extend(["-b".to_owned(), name, "-F".to_owned(), format.to_owned()]);
    }
    args.extend([path.display().to_string(), shape.size.to_string()]);
    Qemu::img(args).success();
}

/// A chain of random layers, each written to by random hands.
pub(crate) fn random_chain(rng: &mut Rng) -> Built {
    let (cluster_bits, scale): (&[u32], u64) = match rng.below(3) {
        0 => (&[9, 12, 16], 384 << 10),
        1 => (&[9, 16, 18], 900 << 10),
        _ => (&[12, 16, 21], 5 << 20),
    };
    let size = |rng: &mut Rng| rng.within(scale / 2..scale * 5 / 4) / 512 * 512;
    let mut built = if rng.one_in(2) {
        let len = if rng.one_in(3) { 100_000 } else { rng.within(scale / 2..scale * 5 / 4) };
        Built::on_raw(&patchy(rng, len as usize))
    } else {
        let size = size(rng);
        let shape = Shape::random(rng, size, cluster_bits);
        let mut built = Built::on_qcow2(shape);
        write_randomly(&mut built, rng, shape);
        built
    };
    for _ in 0..rng.within(1..5) {
        let size = size(rng);
        let shape = Shape::random(rng, size, cluster_bits);
        built.push(shape);
        write_randomly(&mut built, rng, shape);
    }
    built
}

/// Content with holes of all sizes.
fn patchy(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = Operation::write(0, len as u64, rng.next_u64()).bytes;
    for _ in 0..4 {
        let start = rng.below(len as u64) as usize;
        let end = (start + rng.below(len as u64 / 4) as usize).min(len);
        bytes[start..end].fill(0);
    }
    bytes
}

/// Compressed clusters first, while the layer is empty, then whatever comes.
fn write_randomly(built: &mut Built, rng: &mut Rng, shape: Shape) {
    let cluster = shape.cluster();
    let mut operations = Vec::new();
    if !rng.one_in(3) {
        let clusters = shape.size / cluster;
        let mut at = 0;
        for _ in 0..6 {
            at += rng.below(clusters / 4 + 2);
            if at >= clusters {
                break;
            }
            operations.push(Operation::compressed(at * cluster, cluster, rng.next_u64()));
            at += 1;
        }
    }
    for _ in 0..rng.within(1..9) {
        operations.push(Operation::anywhere(rng, shape.size, cluster));
    }
    built.change(shape.ours, &operations);
}
