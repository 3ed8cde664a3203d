//! Chains in memory, and operations on them by way of whatever holds the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qimg::chain::{
    Chain, Commit, Error, Format, LayerRef, Moved, OpenOptions, Rebase, Stream, Watch,
};
use qimg::engine::{BackingReference, CreateOptions, create};
use qimg::format::{ClusterBits, Version};
use qimg::io::{GivenFiles, MemoryStorage, Storage};
use testkit::{Rng, census};

/// A chain in memory, top first; behind it a base that has nothing to do with it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryChain {
    pub(crate) files: Vec<MemoryStorage>,
    formats: Vec<Format>,
    pub(crate) views: Vec<Vec<u8>>,
    /// Layers of the chain; the files behind them are strangers.
    pub(crate) depth: usize,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Commit { from: usize, into: usize, keep: bool },
    Stream { into: usize, base: Option<usize> },
    Rebase { onto: Option<usize>, compress: bool },
}

fn path(number: usize) -> PathBuf {
    PathBuf::from(format!("disks/{number}"))
}

/// Files of a test, under the names that the headers have for them.
pub(crate) fn named<S: Storage + 'static>(files: &[Arc<S>]) -> Arc<GivenFiles> {
    let add = |files: GivenFiles, (number, file): (usize, &Arc<S>)| {
        files.with(path(number), Arc::clone(file) as Arc<dyn Storage>)
    };
    Arc::new(files.iter().enumerate().fold(GivenFiles::new(), add))
}

fn shared(files: &[MemoryStorage]) -> Vec<Arc<MemoryStorage>> {
    files.iter().map(|file| Arc::new(file.clone())).collect()
}

impl MemoryChain {
    /// A chain of random images with random contents; sometimes an image that rests on nothing.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let depth = rng.within(1..5) as usize;
        let count = depth + 1;
        let base_format = if depth > 1 && rng.one_in(2) { Format::Raw } else { Format::Qcow2 };
        let mut formats = vec![Format::Qcow2; depth - 1];
        formats.extend([base_format, Format::Raw]);
        let views = vec![Vec::new(); count];
        let files = (0..count).map(|_| MemoryStorage::new()).collect();
        let mut chain = Self { files, formats, views, depth };
        for number in (0..count).rev() {
            chain.make(number, rng);
        }
        chain
    }

    fn make(&mut self, number: usize, rng: &mut Rng) {
        let sectors = rng.within(20..120);
        let size = sectors * 512;
        let below = (number + 1 < self.depth).then(|| self.views[number + 1].clone());
        let mut view = below.clone().unwrap_or_default();
        view.resize(size as usize, 0);
        let file = &self.files[number];
        if self.formats[number] == Format::Raw {
            file.set_len(size).unwrap();
        } else {
            let version = if rng.one_in(5) { Version::V2 } else { Version::V3 };
            let backing = below.map(|_| BackingReference {
                name: (number + 1).to_string(),
                format: Some(self.formats[number + 1].name().to_owned()),
            });
            let bits = *rng.pick(&[9, 10, 12, 14]);
            let extended_l2 = version == Version::V3 && bits == 14 && rng.one_in(2);
            let cluster_bits = ClusterBits::new(bits).unwrap();
            let like = CreateOptions::new(size);
            let options = CreateOptions { version, cluster_bits, extended_l2, backing, ..like };
            create(file, &options).unwrap();
        }
        let files = shared(&self.files);
        let disk = open(&named(&files), number, self.formats[number], false).unwrap();
        for _ in 0..rng.within(1..5) {
            let offset = rng.below(sectors) * 512;
            let len = (rng.within(1..24) * 512).min(size - offset);
            let fill = if rng.one_in(4) { 0 } else { rng.within(1..256) as u8 };
            match fill {
                0 => disk.write_zeroes_at(offset, len, rng.one_in(2)).unwrap(),
                fill => disk.write_at(offset, &vec![fill; len as usize]).unwrap(),
            }
            view[offset as usize..(offset + len) as usize].fill(fill);
        }
        disk.close().unwrap();
        self.files[number] = (*files[number]).clone();
        self.views[number] = view;
    }

    /// Any operation that is possible.
    pub(crate) fn random_deed(&self, rng: &mut Rng) -> Deed {
        let depth = self.depth as u64;
        if depth == 1 {
            return Deed::Rebase { onto: Some(1), compress: rng.one_in(4) };
        }
        let upper = rng.below(depth - 1) as usize;
        let lower = rng.within(upper as u64 + 1..depth) as usize;
        match rng.below(3) {
            0 => Deed::Commit { from: upper, into: lower, keep: rng.one_in(4) },
            1 => Deed::Stream { into: upper, base: (!rng.one_in(3)).then_some(lower) },
            _ => {
                // One more than the deepest layer is the stranger.
                let onto = rng.within(1..depth + 2) as usize;
                Deed::Rebase { onto: (onto <= self.depth).then_some(onto), compress: rng.one_in(4) }
            }
        }
    }

    /// The uppermost layers, which must show the same whatever happens.
    pub(crate) fn protected(&self, deed: Deed) -> usize {
        match deed {
            Deed::Commit { from, .. } => from.max(1),
            Deed::Stream { into, .. } => into + 1,
            Deed::Rebase { .. } => 1,
        }
    }

    /// The files that may change.
    pub(crate) fn may_change(&self, deed: Deed) -> Vec<usize> {
        match deed {
            Deed::Commit { from: 0, into, .. } => vec![0, into],
            Deed::Commit { from, into, .. } => vec![from - 1, into],
            Deed::Stream { into, .. } => vec![into],
            Deed::Rebase { .. } => vec![0],
        }
    }

    /// Does the deed.
    pub(crate) fn run(
        &self,
        deed: Deed,
        files: Arc<GivenFiles>,
        watch: Watch<'_>,
    ) -> Result<Moved, Error> {
        let options = OpenOptions::new().format(Format::Qcow2).files(files);
        let layer = LayerRef::Depth;
        match deed {
            Deed::Commit { from, into, keep } => {
                let commit =
                    Commit::new(path(0), options).from(layer(from)).into_layer(layer(into));
                commit.keep(keep).run(watch)
            }
            Deed::Stream { into, base } => {
                let stream = Stream::new(path(0), options).into_layer(layer(into));
                match base {
                    Some(base) => stream.base(layer(base)).run(watch),
                    None => stream.run(watch),
                }
            }
            Deed::Rebase { onto, compress } => {
                let rebase = Rebase::new(path(0), options).compress(compress);
                match onto {
                    Some(onto) => rebase.onto(onto.to_string(), self.formats[onto]).run(watch),
                    None => rebase.run(watch),
                }
            }
        }
    }

    /// The uppermost layers show what they showed, and no image loses data.
    pub(crate) fn judge(&self, files: &[MemoryStorage], protected: usize) -> Result<(), String> {
        let shared = shared(files);
        for (number, view) in self.views.iter().enumerate().take(protected) {
            let disk = open(&named(&shared), number, self.formats[number], true);
            let disk = disk.map_err(|error| format!("layer {number}: {error}"))?;
            let mut bytes = vec![0; view.len()];
            disk.read_at(0, &mut bytes).map_err(|error| format!("layer {number}: {error}"))?;
            if let Some(at) = bytes.iter().zip(view).position(|(found, wanted)| found != wanted) {
                let (found, wanted) = (bytes[at], view[at]);
                return Err(format!("layer {number}: byte {at:#x} is {found}, not {wanted}"));
            }
        }
        for (number, file) in files.iter().enumerate() {
            if self.formats[number] == Format::Qcow2
                && let Some(text) = census::take(file).complaint()
            {
                return Err(format!("layer {number}: {text}"));
            }
        }
        Ok(())
    }
}

fn open(
    files: &Arc<GivenFiles>,
    number: usize,
    format: Format,
    read_only: bool,
) -> Result<Chain, Error> {
    let files = Arc::clone(files) as Arc<dyn qimg::io::Files>;
    let options = OpenOptions::new().format(format).read_only(read_only).files(files);
    Chain::open(Path::new(&path(number)), &options)
}
