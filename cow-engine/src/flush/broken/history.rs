//! Small random histories on recorded media, and what must hold wherever the power goes.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use qcow2_format::{ClusterBits, CompressionType};
use testkit::stamps::{SECTOR, ZERO, sectors, stamps};
use testkit::{CrashFiles, CrashPlan, Diary, Rng, census};

use super::{Broken, while_broken};
use crate::{
    CreateOptions, DataFileReference, Error, Image, OpenOptions, Preallocation, ZeroMode, create,
    create_with_data_file,
};

/// Sectors of the disk, and of a cluster.
const SIZE: usize = 96;
const PER_CLUSTER: usize = 4;

/// What an image is like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Plain,
    /// Counts wait.
    Lazy,
    /// Every cluster is there, and is made zeros and written in turn: no count changes.
    Prepared,
    /// Guest data in a file of its own; made zeros and written in turn.
    Outside,
    /// Everything is compressed data.
    Compressed,
}

impl Kind {
    fn create(self) -> Vec<MemoryStorage> {
        let mut options = CreateOptions::new((SIZE * SECTOR) as u64);
        options.cluster_bits = ClusterBits::new(11).unwrap();
        options.lazy_refcounts = matches!(self, Self::Lazy);
        options.compression_type = CompressionType::Deflate;
        if matches!(self, Self::Prepared) {
            options.preallocation = Preallocation::Metadata;
        }
        let image = MemoryStorage::new();
        if !matches!(self, Self::Outside) {
            create(&image, &options).unwrap();
            return vec![image];
        }
        options.data_file = Some(DataFileReference { name: "data".to_owned(), raw: false });
        let data = MemoryStorage::new();
        create_with_data_file(&image, &data, &options).unwrap();
        vec![image, data]
    }
}

fn open(files: &[Arc<impl Storage + 'static>], read_only: bool) -> Image {
    let storage = |file: &Arc<_>| Arc::clone(file) as Arc<dyn Storage>;
    let options = OpenOptions::new().read_only(read_only).data_file(files.get(1).map(storage));
    Image::open(storage(&files[0]), options.l2_cache_bytes(0)).unwrap()
}

struct Player<'f> {
    kind: Kind,
    files: &'f CrashFiles,
    image: Image,
    diary: Diary,
    stamp: u64,
}

impl Player<'_> {
    fn change(
        &mut self,
        first: usize,
        count: usize,
        stamp: u64,
        work: impl FnOnce(&Image, u64, u64) -> crate::Result<()>,
    ) {
        let change = self.diary.begin(self.files.position(), first, count, stamp);
        match work(&self.image, (first * SECTOR) as u64, (count * SECTOR) as u64) {
            Ok(()) => self.diary.end(change),
            Err(Error::Allocated { .. }) => self.diary.refused(change),
            Err(error) => panic!("{error}"),
        }
    }

    fn flush(&mut self) {
        let begun = self.diary.flushing();
        self.image.flush().unwrap();
        self.diary.flushed(begun, self.files.position());
    }

    fn step(&mut self, rng: &mut Rng) {
        self.stamp += 1;
        let stamp = self.stamp;
        let first = rng.below(SIZE as u64) as usize;
        let count = (1 + rng.below(5) as usize).min(SIZE - first);
        let cluster = first / PER_CLUSTER * PER_CLUSTER;
        let clusters =
            PER_CLUSTER * (1 + rng.below(3) as usize).min((SIZE - cluster) / PER_CLUSTER);
        let deed = match self.kind {
            Kind::Prepared | Kind::Outside => *rng.pick(&[0, 4, 7]),
            _ => rng.below(12),
        };
        match deed {
            0 => self.change(first, count, ZERO, |image, at, len| {
                image.write_zeroes_at(at, len, ZeroMode::Keep)
            }),
            1 => self.change(cluster, clusters, ZERO, |image, at, len| {
                image.write_zeroes_at(at, len, ZeroMode::Unmap)
            }),
            2 => self.change(cluster, clusters, ZERO, Image::discard_at),
            3 => self.compress(cluster),
            4..7 => self.flush(),
            _ => {
                let bytes = sectors(stamp, first, count);
                self.change(first, count, stamp, |image, at, _| image.write_at(at, &bytes));
            }
        }
    }

    fn compress(&mut self, cluster: usize) {
        if self.files.files().len() > 1 {
            return;
        }
        let bytes = sectors(self.stamp, cluster, PER_CLUSTER);
        self.change(cluster, PER_CLUSTER, self.stamp, |image, at, _| {
            image.write_compressed_at(&mut image.compressor()?, at, &bytes)
        });
    }
}

/// Plays a history while a rule is broken, and then looks at what power cuts leave. Returns how many
/// states there were, and the first complaint.
pub(super) fn complaint(kind: Kind, what: Option<Broken>, seed: u64) -> (usize, Option<String>) {
    let files = CrashFiles::on(kind.create());
    let mut rng = Rng::new(seed);
    let image = open(files.files(), false);
    let mut player =
        Player { kind, files: &files, image, diary: Diary::new(vec![ZERO; SIZE]), stamp: 0 };
    if matches!(kind, Kind::Compressed) {
        for cluster in (0..SIZE).step_by(PER_CLUSTER) {
            player.stamp += 1;
            player.compress(cluster);
        }
        player.flush();
    }
    while_broken(what, || (0..40).for_each(|_| player.step(&mut rng)));
    let diary = player.diary;
    let log = files.log();
    drop(player.image);
    let mut count = 0;
    for cut in log.cuts() {
        let allowed = diary.allowed(cut.position());
        for state in cut.states(&CrashPlan { states_max: 64, seed, tears: true }) {
            count += 1;
            let left: Vec<_> = cut.materialise(&state).into_iter().map(Arc::new).collect();
            if let Some(text) = census::take(&*left[0]).complaint() {
                return (count, Some(text));
            }
            let mut bytes = vec![0; SIZE * SECTOR];
            let read = open(&left, true).read_at(0, &mut bytes);
            let shown = read.map_err(|error| format!("CE-1: {error}"));
            let shown = shown.and_then(|()| stamps(&bytes, 0));
            if let Err(text) = shown.and_then(|found| allowed.judge(&found)) {
                return (count, Some(text));
            }
        }
    }
    (count, None)
}
