//! `Recipe`: what an image is like, and the world around it.

use qimg::engine::{CreateOptions, DataFileReference, Preallocation};
use qimg::format::{ClusterBits, CompressionType, RefcountOrder, Version};
use testkit::Rng;
use testkit::stamps::SECTOR;

/// Where guest data lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Inside,
    Outside,
    /// In a file of its own that is a raw image of the disk.
    Raw,
}

/// What lies below the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    Nothing,
    Raw,
    /// A qcow2 overlay over a raw base.
    Chain,
}

/// What was done to the image before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    New,
    /// Every cluster is compressed data.
    Compressed,
    /// Written, and half given up again.
    Used,
    /// The refcount table is about to grow.
    NearlyFull,
    /// An internal snapshot shares clusters with the disk.
    Snapshot,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    One,
    /// Several threads, and one that flushes.
    Several,
}

/// What an image is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) sectors: usize,
    pub(crate) cluster_bits: u32,
    pub(crate) version: Version,
    pub(crate) refcount_order: u32,
    pub(crate) extended_l2: bool,
    pub(crate) lazy: bool,
    pub(crate) compression: CompressionType,
    pub(crate) preallocation: Preallocation,
    pub(crate) data: Data,
    pub(crate) below: Below,
    pub(crate) below_sectors: usize,
    pub(crate) start: Start,
    pub(crate) hands: Hands,
    /// The least memory for tables, or more than there are.
    pub(crate) l2_cache_bytes: u64,
    /// The host takes space back.
    pub(crate) punches: bool,
    /// An autoclear bit that nobody knows has to go when the image is opened.
    pub(crate) autoclear: bool,
}

impl Recipe {
    /// The plainest image.
    pub(crate) const fn plain(sectors: usize, cluster_bits: u32) -> Self {
        Self {
            sectors,
            cluster_bits,
            version: Version::V3,
            refcount_order: 4,
            extended_l2: false,
            lazy: false,
            compression: CompressionType::Deflate,
            preallocation: Preallocation::Off,
            data: Data::Inside,
            below: Below::Nothing,
            below_sectors: 0,
            start: Start::New,
            hands: Hands::One,
            l2_cache_bytes: 0,
            punches: true,
            autoclear: false,
        }
    }

    pub(crate) fn random(rng: &mut Rng) -> Self {
        let cluster_bits = *rng.pick(&[9, 9, 9, 10, 11, 12, 12, 13, 14, 14, 16]);
        let mut recipe = Self::plain(0, cluster_bits);
        recipe.extended_l2 = cluster_bits >= 14 && rng.below(3) > 0;
        recipe.data =
            *rng.pick(&[Data::Inside, Data::Inside, Data::Inside, Data::Outside, Data::Raw]);
        recipe.lazy = rng.one_in(3);
        recipe.refcount_order = if rng.one_in(2) { 4 } else { rng.below(7) as u32 };
        if rng.one_in(3) && recipe.data == Data::Inside {
            recipe.compression = CompressionType::Zstd;
        }
        recipe.start = *rng.pick(&[Start::New, Start::Used, Start::Compressed, Start::Used]);
        recipe.hands = if rng.one_in(8) { Hands::Several } else { Hands::One };
        recipe.l2_cache_bytes = if rng.one_in(2) { 0 } else { 1 << 20 };
        recipe.punches = rng.below(3) > 0;
        recipe.autoclear = rng.one_in(6);
        if !recipe.extended_l2 && recipe.data == Data::Inside && rng.one_in(7) {
            recipe.old_version();
        }
        recipe.sized(rng);
        if rng.one_in(2) && recipe.data != Data::Raw {
            recipe.below = *rng.pick(&[Below::Raw, Below::Raw, Below::Chain]);
            recipe.below_sectors = 1 + rng.below(recipe.sectors as u64 * 3 / 2) as usize;
        }
        if rng.one_in(4) && (recipe.below == Below::Nothing || recipe.extended_l2) {
            let all = [Preallocation::Metadata, Preallocation::Falloc, Preallocation::Full];
            recipe.preallocation = *rng.pick(&all);
        }
        recipe.rare_start(rng);
        if recipe.data != Data::Inside && recipe.start == Start::Compressed {
            recipe.start = Start::New;
        }
        recipe
    }

    /// What version 2 cannot say goes.
    fn old_version(&mut self) {
        self.version = Version::V2;
        self.refcount_order = 4;
        self.compression = CompressionType::Deflate;
        (self.lazy, self.autoclear) = (false, false);
    }

    /// A disk of some clusters, the last one rarely whole.
    fn sized(&mut self, rng: &mut Rng) {
        let per_cluster = self.per_cluster() as u64;
        let clusters = match self.cluster_bits {
            9..12 => rng.within(20..100),
            12..14 => rng.within(6..24),
            _ => rng.within(3..9),
        };
        let odd = if rng.one_in(2) { rng.below(per_cluster) } else { 0 };
        self.sectors = (clusters * per_cluster + odd) as usize;
    }

    /// Beginnings that take long to make or to judge.
    fn rare_start(&mut self, rng: &mut Rng) {
        if rng.one_in(40) && self.version == Version::V3 && self.data == Data::Inside {
            self.cluster_bits = 9;
            self.refcount_order = 6;
            self.extended_l2 = false;
            self.preallocation = Preallocation::Off;
            self.start = Start::NearlyFull;
            self.sectors = 5 << 10;
            (self.below, self.below_sectors) = (Below::Nothing, 0);
        } else if rng.one_in(12) && self.data == Data::Inside && self.refcount_order >= 4 {
            // Narrower counts may be used up by packed compressed data.
            self.start = Start::Snapshot;
        }
    }

    pub(crate) const fn cluster_bytes(&self) -> usize {
        1 << self.cluster_bits
    }

    pub(crate) const fn per_cluster(&self) -> usize {
        self.cluster_bytes() / SECTOR
    }

    pub(crate) fn create_options(&self) -> CreateOptions {
        let mut options = CreateOptions::new((self.sectors * SECTOR) as u64);
        options.cluster_bits = ClusterBits::new(self.cluster_bits).unwrap();
        options.version = self.version;
        options.refcount_order = RefcountOrder::new(self.refcount_order).unwrap();
        options.extended_l2 = self.extended_l2;
        options.lazy_refcounts = self.lazy;
        options.compression_type = self.compression;
        options.preallocation = self.preallocation;
        let raw = self.data == Data::Raw;
        options.data_file = (self.data != Data::Inside)
            .then(|| DataFileReference { name: "disk.data".to_owned(), raw });
        options
    }

    /// What the states of this image are counted under.
    pub(crate) fn traits(&self) -> Vec<String> {
        let mut names = vec![
            format!("cluster size {}", self.cluster_bytes()),
            format!("refcount width {}", 1 << self.refcount_order),
            format!("version {}", if self.version == Version::V2 { 2 } else { 3 }),
            format!("l2 entries {}", if self.extended_l2 { "extended" } else { "standard" }),
            format!("data {:?}", self.data).to_lowercase(),
            format!("below {:?}", self.below).to_lowercase(),
            format!("start {:?}", self.start).to_lowercase(),
            format!("preallocation {}", self.preallocation),
            format!("hands {:?}", self.hands).to_lowercase(),
        ];
        if self.data == Data::Inside {
            names.push(format!("compression {:?}", self.compression).to_lowercase());
        }
        let flags = [
            (self.lazy, "lazy refcounts"),
            (self.autoclear, "autoclear bit"),
            (!self.punches, "host without holes"),
        ];
        names.extend(flags.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned()));
        names
    }
}

/// Everything that [`Recipe::traits`] can say and a run should have seen.
pub(crate) const TRAITS: &[&str] = &[
    "cluster size 512",
    "cluster size 1024",
    "cluster size 2048",
    "cluster size 4096",
    "cluster size 8192",
    "cluster size 16384",
    "cluster size 65536",
    "refcount width 1",
    "refcount width 2",
    "refcount width 4",
    "refcount width 8",
    "refcount width 16",
    "refcount width 32",
    "refcount width 64",
    "version 2",
    "version 3",
    "l2 entries extended",
    "l2 entries standard",
    "data inside",
    "data outside",
    "data raw",
    "below nothing",
    "below raw",
    "below chain",
    "start new",
    "start compressed",
    "start used",
    "start nearlyfull",
    "start snapshot",
    "preallocation off",
    "preallocation metadata",
    "preallocation falloc",
    "preallocation full",
    "hands one",
    "hands several",
    "compression deflate",
    "compression zstd",
    "lazy refcounts",
    "autoclear bit",
    "host without holes",
];
