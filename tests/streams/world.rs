//! A random chain in a folder, made through our own library.

use std::path::PathBuf;

use proptest::prelude::*;
use qimg::chain::{Chain, Format, OpenOptions};
use qimg::create::{CreateOptions, Qcow2Options, create};
use qimg::engine::BackingReference;
use qimg::format::Version;
use testkit::Folder;

/// One change to the layer that is on top when its turn comes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { at: u64, len: u64, byte: u8 },
    Zero { at: u64, len: u64 },
    Discard { at: u64, len: u64 },
}

/// One layer: its disk, its shape, and what is done to it.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlan {
    pub(crate) size: u64,
    pub(crate) qcow2: Qcow2Options,
    pub(crate) changes: Vec<Change>,
}

/// A chain that was made, with the names of its files, base first.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) names: Vec<(PathBuf, Format)>,
}

/// What images may be like.
pub(crate) fn shapes() -> impl Strategy<Value = Qcow2Options> {
    let bits = prop::sample::select(vec![9, 10, 12, 14, 16]);
    (bits, 0_u32..7, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(bits, order, extended, lazy, old)| {
            let base = Qcow2Options { cluster_size: 1 << bits, ..Qcow2Options::default() };
            if old {
                return Qcow2Options { version: Version::V2, ..base };
            }
            let extended_l2 = extended && bits >= 14;
            Qcow2Options { refcount_bits: 1 << order, lazy_refcounts: lazy, extended_l2, ..base }
        },
    )
}

fn changes(size: u64) -> impl Strategy<Value = Vec<Change>> {
    let any = (0..size, 1..(size / 4).max(2), any::<u8>(), 0..6);
    let change = any.prop_map(move |(at, len, byte, kind)| {
        let len = len.min(size - at);
        match kind {
            0 => Change::Zero { at, len },
            1 => Change::Discard { at, len },
            _ => Change::Write { at, len, byte },
        }
    });
    prop::collection::vec(change, 0..8)
}

/// The plans of one to three layers.
pub(crate) fn layers() -> impl Strategy<Value = Vec<LayerPlan>> {
    // Small ones have odd ends, large ones are longer than any buffer.
    let sectors = prop_oneof![3 => 1_u64..1000, 1 => 1000_u64..10_000];
    let size = sectors.prop_map(|sectors| sectors * 512);
    let layer = (size, shapes()).prop_flat_map(|(size, qcow2)| {
        let qcow2 = Just(qcow2);
        (Just(size), qcow2, changes(size)).prop_map(|(size, qcow2, changes)| LayerPlan {
            size,
            qcow2,
            changes,
        })
    });
    prop::collection::vec(layer, 1..4)
}

impl World {
    /// Makes the files; `raw_base` says what the lowest is.
    pub(crate) fn new(layers: &[LayerPlan], raw_base: bool) -> Self {
        let folder = Folder::new();
        let mut names: Vec<(PathBuf, Format)> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let format = if index == 0 && raw_base { Format::Raw } else { Format::Qcow2 };
            let path = folder.path(format!("layer-{index}"));
            let backing = names.last().map(|(path, format)| BackingReference {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                format: Some(format.to_string()),
            });
            let qcow2 = Qcow2Options { backing, ..layer.qcow2.clone() };
            let new = CreateOptions { qcow2, ..CreateOptions::new(format, layer.size) };
            create(&path, &new).unwrap();
            let chain = Chain::open(&path, &OpenOptions::new().format(format)).unwrap();
            layer.changes.iter().for_each(|change| change.apply(&chain));
            chain.close().unwrap();
            names.push((path, format));
        }
        Self { folder, names }
    }

    /// The chain, for reading.
    pub(crate) fn open(&self) -> Chain {
        let (path, format) = self.names.last().unwrap();
        Chain::open(path, &OpenOptions::new().format(*format).read_only(true)).unwrap()
    }

    /// The file below the top, if there is one.
    pub(crate) fn below(&self) -> Option<&(PathBuf, Format)> {
        self.names.iter().rev().nth(1)
    }
}

impl Change {
    fn apply(&self, chain: &Chain) {
        match *self {
            Self::Write { at, len, byte } => chain.write_at(at, &vec![byte; len as usize]),
            Self::Zero { at, len } => chain.write_zeroes_at(at, len, true),
            Self::Discard { at, len } => chain.discard_at(at, len),
        }
        .unwrap();
    }
}
