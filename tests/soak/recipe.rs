//! `Recipe`: how an image is made, and which of the options that covers.

use std::path::Path;

use testkit::{Folder, Pattern, Qemu, Rng};

use super::hand::Hand;

/// Where the bytes of the guest are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataFile {
    /// In the image.
    None,
    /// In a file of their own.
    Plain,
    /// In a file of their own, which is a raw image too.
    Raw,
}

/// How much is reserved at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preallocation {
    Off,
    Metadata,
    Falloc,
    Full,
}

/// The backing file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below {
    /// Length in bytes; for a raw file any number.
    pub(crate) len: u64,
    /// Cluster size of a qcow2 file; `None` is raw.
    pub(crate) cluster_bits: Option<u32>,
    pub(crate) compressed: bool,
    pub(crate) seed: u64,
}

/// How an image is made.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) maker: Hand,
    pub(crate) cluster_bits: u32,
    pub(crate) version_2: bool,
    pub(crate) refcount_bits: u32,
    pub(crate) extended_l2: bool,
    pub(crate) data_file: DataFile,
    pub(crate) zstd: bool,
    pub(crate) lazy: bool,
    pub(crate) preallocation: Preallocation,
    /// Size of the disk in bytes, a multiple of 512.
    pub(crate) size: u64,
    pub(crate) below: Option<Below>,
    /// Whether internal snapshots are taken on the way.
    pub(crate) snapshots: bool,
}

/// Every option value that a run must have seen.
pub(crate) const TRAITS: &[&str] = &[
    "cluster_size=512",
    "cluster_size=1024",
    "cluster_size=4096",
    "cluster_size=16384",
    "cluster_size=65536",
    "cluster_size=131072",
    "cluster_size=2097152",
    "compat=0.10",
    "compat=1.1",
    "refcount_bits=1",
    "refcount_bits=2",
    "refcount_bits=4",
    "refcount_bits=8",
    "refcount_bits=16",
    "refcount_bits=32",
    "refcount_bits=64",
    "extended_l2",
    "data_file",
    "data_file_raw",
    "zlib",
    "zstd",
    "lazy_refcounts",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=full",
    "backing=raw",
    "backing=qcow2",
    "backing=shorter",
    "backing=longer",
    "backing=none",
    "snapshots",
    "made by us",
    "made by the real tool",
];

impl Recipe {
    /// Any image that the format allows.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let cluster_bits = *rng.pick(&[9, 10, 12, 14, 16, 16, 17, 21]);
        let extended_l2 = cluster_bits >= 14 && rng.one_in(2);
        let version_2 = !extended_l2 && rng.one_in(5);
        let refcount_bits =
            if version_2 { 16 } else { *rng.pick(&[1, 2, 4, 8, 16, 16, 16, 32, 64]) };
        let data_file = match rng.below(8) {
            0 if !version_2 => DataFile::Plain,
            1 if !version_2 => DataFile::Raw,
            _ => DataFile::None,
        };
        let size = draft_size(rng, cluster_bits);
        let below = (data_file != DataFile::Raw && rng.one_in(2)).then(|| Below::draft(rng, size));
        let may_reserve = below.is_none() || extended_l2;
        let preallocation = match rng.below(8) {
            0 if may_reserve => Preallocation::Metadata,
            1 if may_reserve => Preallocation::Falloc,
            2 if may_reserve => Preallocation::Full,
            _ => Preallocation::Off,
        };
        let mut recipe = Self {
            maker: Hand::Theirs,
            cluster_bits,
            version_2,
            refcount_bits,
            extended_l2,
            data_file,
            zstd: !version_2 && rng.one_in(2),
            lazy: !version_2 && rng.one_in(4),
            preallocation,
            size,
            below,
            snapshots: data_file == DataFile::None && refcount_bits >= 4 && rng.one_in(3),
        };
        if rng.one_in(2) {
            recipe.maker = Hand::Ours;
        }
        recipe
    }

    /// Whether compressed clusters are written. Many of them in one host cluster, and then a
    /// snapshot, are too much for narrow counts: the real tool then fails and leaves a leak.
    pub(crate) fn compresses(&self) -> bool {
        self.data_file == DataFile::None && (!self.snapshots || self.refcount_bits >= 16)
    }

    pub(crate) const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Which of [`TRAITS`] the image has.
    pub(crate) fn traits(&self) -> Vec<String> {
        let mut traits = vec![
            format!("cluster_size={}", self.cluster_bytes()),
            format!("refcount_bits={}", self.refcount_bits),
        ];
        let reserved = match self.preallocation {
            Preallocation::Off => None,
            Preallocation::Metadata => Some("preallocation=metadata"),
            Preallocation::Falloc => Some("preallocation=falloc"),
            Preallocation::Full => Some("preallocation=full"),
        };
        let data_file = match self.data_file {
            DataFile::None => None,
            DataFile::Plain => Some("data_file"),
            DataFile::Raw => Some("data_file_raw"),
        };
        let words = [
            Some(if self.version_2 { "compat=0.10" } else { "compat=1.1" }),
            Some(if self.zstd { "zstd" } else { "zlib" }),
            self.extended_l2.then_some("extended_l2"),
            self.lazy.then_some("lazy_refcounts"),
            self.snapshots.then_some("snapshots"),
            reserved,
            data_file,
            Some(if self.maker == Hand::Theirs { "made by the real tool" } else { "made by us" }),
        ];
        let below = self.below.map_or(vec!["backing=none"], |below| below.traits(self.size));
        traits.extend(words.into_iter().flatten().chain(below).map(str::to_owned));
        traits
    }

    /// The `-o` list. `data` is the name of the data file.
    fn options(&self, data: &Path) -> String {
        let mut options = format!(
            "cluster_size={},compat={}",
            self.cluster_bytes(),
            if self.version_2 { "0.10" } else { "1.1" }
        );
        let mut add = |condition: bool, text: &str| {
            if condition {
                options.push(',');
                options.push_str(text);
            }
        };
        add(self.refcount_bits != 16, &format!("refcount_bits={}", self.refcount_bits));
        add(self.extended_l2, "extended_l2=on");
        add(self.data_file != DataFile::None, &format!("data_file={}", data.display()));
        add(self.data_file == DataFile::Raw, "data_file_raw=on");
        add(self.zstd, "compression_type=zstd");
        add(self.lazy, "lazy_refcounts=on");
        add(self.preallocation == Preallocation::Metadata, "preallocation=metadata");
        add(self.preallocation == Preallocation::Falloc, "preallocation=falloc");
        add(self.preallocation == Preallocation::Full, "preallocation=full");
        options
    }

    /// The arguments of `create`, for either program.
    pub(crate) fn create_args(&self, image: &Path, data: &Path) -> Vec<String> {
        let mut args = vec!["create".to_owned(), "-q".into(), "-f".into(), "qcow2".into()];
        args.extend(["-o".to_owned(), self.options(data)]);
        if let Some(below) = &self.below {
            args.extend(["-b".to_owned(), below.name().into(), "-F".into(), below.format().into()]);
        }
        args.extend([image.display().to_string(), self.size.to_string()]);
        args
    }
}

/// A few clusters up to many, the last one often a part only.
fn draft_size(rng: &mut Rng, cluster_bits: u32) -> u64 {
    let cluster = 1_u64 << cluster_bits;
    let most = match cluster_bits {
        9 | 10 => 3 << 20,
        21 => 20 << 20,
        _ => 10 << 20,
    };
    let clusters = match rng.below(3) {
        0 => rng.within(1..(most / cluster).min(8) + 1),
        _ => rng.within(1..most / cluster + 1),
    };
    let whole = clusters * cluster;
    if rng.one_in(3) { whole } else { whole - rng.below(cluster / 512) * 512 }
}

impl Below {
    fn draft(rng: &mut Rng, size: u64) -> Self {
        let cluster_bits = rng.one_in(2).then(|| *rng.pick(&[9, 12, 14, 16, 18]));
        let len = match rng.below(3) {
            0 => size,
            1 => size * rng.within(20..100) / 100,
            _ => size * rng.within(101..180) / 100,
        };
        let unit = if cluster_bits.is_some() { 512 } else { 1 };
        let len = (len / unit * unit).max(512);
        Self { len, cluster_bits, compressed: rng.one_in(3), seed: rng.next_u64() }
    }

    fn traits(&self, size: u64) -> Vec<&'static str> {
        let mut traits =
            vec![if self.cluster_bits.is_some() { "backing=qcow2" } else { "backing=raw" }];
        match self.len.cmp(&size) {
            std::cmp::Ordering::Less => traits.push("backing=shorter"),
            std::cmp::Ordering::Greater => traits.push("backing=longer"),
            std::cmp::Ordering::Equal => {}
        }
        traits
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.cluster_bits.is_some() { "below.qcow2" } else { "below.raw" }
    }

    fn format(&self) -> &'static str {
        if self.cluster_bits.is_some() { "qcow2" } else { "raw" }
    }

    /// Makes the file and returns what it shows.
    pub(crate) fn make(&self, folder: &Folder) -> Vec<u8> {
        let mut rng = Rng::new(self.seed);
        let mut bytes = Pattern::new(rng.next_u64()).bytes(0, self.len as usize);
        for _ in 0..rng.within(1..6) {
            let start = rng.below(self.len) as usize;
            let end = (start + rng.below(self.len / 2 + 1) as usize).min(bytes.len());
            let fill = if rng.one_in(3) { rng.next_u64() as u8 } else { 0 };
            bytes[start..end].fill(fill);
        }
        let raw = folder.write("below.raw", &bytes);
        if let Some(bits) = self.cluster_bits {
            let options = format!("cluster_size={}", 1 << bits);
            let mut args = vec!["convert", "-f", "raw", "-O", "qcow2", "-o", &options];
            args.extend(self.compressed.then_some("-c"));
            let image = folder.path(self.name());
            args.extend([raw.to_str().unwrap(), image.to_str().unwrap()]);
            Qemu::img(args).success();
        }
        bytes
    }
}
