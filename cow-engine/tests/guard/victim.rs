//! Images with every structure that a writer must not touch, and where those lie.

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Area, Error, Image, OpenOptions};
use testkit::{Folder, Qemu};

pub(crate) const COPIED: u64 = 1 << 63;
pub(crate) const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// What the images are like: every cluster size class, both versions, both kinds of entries.
pub(crate) const SHAPES: [Shape; 6] = [
    Shape { options: "cluster_size=512", cluster_bits: 9 },
    Shape { options: "cluster_size=512,compat=0.10", cluster_bits: 9 },
    Shape { options: "cluster_size=4k", cluster_bits: 12 },
    Shape { options: "cluster_size=64k", cluster_bits: 16 },
    Shape { options: "cluster_size=64k,compat=0.10", cluster_bits: 16 },
    Shape { options: "cluster_size=16k,extended_l2=on", cluster_bits: 14 },
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) options: &'static str,
    pub(crate) cluster_bits: u32,
}

/// An image made by the real tools, with an internal snapshot.
///
/// Guest cluster 0 is the image's own, guest cluster 1 is shared with the snapshot, what the
/// second L2 table maps is shared together with the table, and a third one is not there.
#[derive(Clone, Debug)]
pub(crate) struct Victim {
    pub(crate) shape: Shape,
    pub(crate) bytes: Vec<u8>,
}

impl Shape {
    pub(crate) fn cluster_bytes(self) -> u64 {
        1 << self.cluster_bits
    }

    pub(crate) fn is_version_2(self) -> bool {
        self.options.contains("0.10")
    }

    pub(crate) fn is_extended(self) -> bool {
        self.options.contains("extended")
    }

    pub(crate) fn entry_bytes(self) -> u64 {
        if self.is_extended() { 16 } else { 8 }
    }

    /// Guest bytes that one L2 table maps.
    pub(crate) fn covered(self) -> u64 {
        self.cluster_bytes() / self.entry_bytes() * self.cluster_bytes()
    }

    pub(crate) fn victim(self) -> Victim {
        let folder = Folder::new();
        let path = folder.path("victim.qcow2");
        let image = path.to_str().unwrap();
        let (cluster, covered) = (self.cluster_bytes(), self.covered());
        let size = (2 * covered + 4 * cluster).to_string();
        Qemu::img(["create", "-q", "-f", "qcow2", "-o", self.options, image, &size]).success();
        let io = |commands: &[String]| {
            let words = commands.iter().flat_map(|command| ["-c", command.as_str()]);
            let words = ["-f", "qcow2"].into_iter().chain(words).chain([image]);
            let said = Qemu::io(words).success();
            assert_eq!(said.stdout.matches("wrote ").count(), commands.len(), "{said:?}");
        };
        io(&[
            format!("write -P 1 0 {}", 2 * cluster),
            format!("write -P 2 {covered} {}", 2 * cluster),
        ]);
        Qemu::img(["snapshot", "-c", "one", image]).success();
        io(&[format!("write -P 3 0 {cluster}")]);
        Victim { shape: self, bytes: std::fs::read(&path).unwrap() }
    }
}

impl Victim {
    /// Every structure of the image, and the host offset of a cluster of it.
    pub(crate) fn areas(&self) -> Vec<(Area, u64)> {
        let table = |at| self.word(at) & OFFSET;
        let (l1, refcounts, snapshots) = (table(40), table(48), table(64));
        let snapshot_l1 = table(snapshots);
        let areas = [
            (Area::Header, 0),
            (Area::L1Table, l1),
            (Area::RefcountTable, refcounts),
            (Area::RefcountBlock, table(refcounts)),
            (Area::L2Table, table(l1)),
            (Area::SnapshotTable, snapshots),
            (Area::SnapshotL1Table, snapshot_l1),
            (Area::SnapshotL2Table, table(snapshot_l1)),
            // Shared with the disk.
            (Area::SnapshotL2Table, table(snapshot_l1 + 8)),
        ];
        assert!(areas.iter().skip(1).all(|(_, host)| *host != 0), "{areas:x?}");
        assert_ne!(areas[4].1, areas[7].1, "the disk has its own first table");
        assert_eq!(areas[8].1, table(l1 + 8), "and shares the second");
        areas.into()
    }

    /// Where the L2 entry of guest cluster 0 lies.
    pub(crate) fn entry(&self) -> u64 {
        self.word(self.word(40)) & OFFSET
    }

    pub(crate) fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        let at = (at as usize).min(self.bytes.len());
        let there = (self.bytes.len() - at).min(8);
        word[..there].copy_from_slice(&self.bytes[at..at + there]);
        u64::from_be_bytes(word)
    }

    /// The same image with another word somewhere.
    pub(crate) fn with_word(mut self, at: u64, word: u64) -> Self {
        let at = at as usize;
        if self.bytes.len() < at + 8 {
            self.bytes.resize(at + 8, 0);
        }
        self.bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
        self
    }

    /// Where the 16-bit count of a cluster lies; one block counts all of these images.
    fn count_at(&self, cluster: u64) -> usize {
        let block = self.word(self.word(48)) & OFFSET;
        assert!(cluster < self.shape.cluster_bytes() / 2, "one block counts all clusters");
        (block + cluster * 2) as usize
    }

    pub(crate) fn with_count(mut self, cluster: u64, count: u16) -> Self {
        let at = self.count_at(cluster);
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        self
    }

    /// The same image with every cluster of the file counted.
    pub(crate) fn without_free_clusters(mut self) -> Self {
        for cluster in 0..(self.bytes.len() as u64).div_ceil(self.shape.cluster_bytes()) {
            let at = self.count_at(cluster);
            if self.bytes[at..at + 2] == [0, 0] {
                self.bytes[at + 1] = 1;
            }
        }
        self
    }

    pub(crate) fn storage(&self) -> Arc<MemoryStorage> {
        Arc::new(MemoryStorage::from(&self.bytes[..]))
    }
}

pub(crate) fn try_open(storage: &Arc<MemoryStorage>) -> Result<Image, Error> {
    let storage: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(storage);
    Image::open(storage, OpenOptions::new())
}

pub(crate) fn bytes(storage: &MemoryStorage) -> Vec<u8> {
    let mut bytes = vec![0; storage.len().unwrap() as usize];
    assert_eq!(storage.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// First byte that differs, not counting the mark of damage.
pub(crate) fn first_change(before: &[u8], after: &[u8]) -> Option<usize> {
    let mut before = before.to_vec();
    if before[7] == 3 && after[79] & 2 != 0 {
        before[79] |= 2;
    }
    if before == after {
        return None;
    }
    if before.len() != after.len() {
        return Some(before.len().min(after.len()));
    }
    before.iter().zip(after).position(|(before, after)| before != after)
}

/// A change that a guest can ask for.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    pub(crate) apply: fn(&Image, u64) -> Result<(), Error>,
}

macro_rules! changes {
    ($($name:literal => $apply:expr,)*) => {
        [$(Change { name: $name, apply: $apply }),*]
    };
}

fn cluster(image: &Image) -> u64 {
    image.geometry().cluster_bytes()
}

/// Every kind of change, to the cluster at a guest offset.
pub(crate) fn changes() -> [Change; 10] {
    use cow_engine::ZeroMode::{Keep, Unmap};
    changes! {
        "write" => |image, at| image.write_at(at, &vec![9; cluster(image) as usize]),
        "write a part" => |image, at| image.write_at(at + 100, &[9; 100]),
        "write on" => |image, at| {
            image.write_at(at + cluster(image) / 2, &vec![9; cluster(image) as usize])
        },
        "plan a write" => |image, at| image.begin_write(at, 512).map(drop),
        "zero" => |image, at| image.write_zeroes_at(at, cluster(image), Keep),
        "zero and unmap" => |image, at| image.write_zeroes_at(at, cluster(image), Unmap),
        "zero a part" => |image, at| image.write_zeroes_at(at + 100, 100, Keep),
        "zero and unmap a part" => |image, at| image.write_zeroes_at(at + 100, 100, Unmap),
        "discard" => |image, at| image.discard_at(at, cluster(image)),
        "compress" => |image, at| {
            let mut compressor = image.compressor()?;
            image.write_compressed_at(&mut compressor, at, &vec![9; cluster(image) as usize])
        },
    }
}
