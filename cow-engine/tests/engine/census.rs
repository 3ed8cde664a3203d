//! An independent census: walks the tables of an image byte by byte, sharing no code with what it
//! judges, counts who refers to which cluster, and compares with the refcounts on disk.
//!
//! It knows versions 2 and 3, counts of every width, extended L2 entries and external data files;
//! no snapshots and no persistent bitmaps.

use std::collections::BTreeMap;

use qcow2_format::limit::SECTOR_BYTES;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// Incompatible features.
const DIRTY: u64 = 1;
const DATA_FILE: u64 = 4;
const EXTENDED_L2: u64 = 16;

/// What is wrong with an image.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The tables contradict themselves, whatever the counts say: two structures on one cluster,
    /// an entry that means nothing.
    pub(crate) nonsense: Vec<String>,
    /// A count is lower than the references, or a flag lies: data will be lost, unless the image
    /// says that it must be repaired first.
    pub(crate) losses: Vec<String>,
    /// Clusters that are counted and not used.
    pub(crate) leaks: u64,
    /// The image says that its counts may be too low.
    pub(crate) dirty: bool,
}

struct Walk<'i> {
    image: &'i [u8],
    cluster_bits: u32,
    features: u64,
    references: BTreeMap<u64, u64>,
    /// Clusters that only compressed data refers to.
    packed: BTreeMap<u64, u64>,
    /// Entries (where they stand, and where they point) that say "referred to once".
    copied: Vec<(u64, u64)>,
    /// Entries that could say so and do not.
    uncopied: Vec<(u64, u64)>,
    census: Census,
}

/// Takes the census of an image.
pub(crate) fn take(image: &[u8]) -> Census {
    let version = word(image, 0) & 0xffff_ffff;
    let features = if version >= 3 { word(image, 72) } else { 0 };
    let mut walk = Walk {
        image,
        cluster_bits: (word(image, 20) >> 32) as u32,
        features,
        references: BTreeMap::new(),
        packed: BTreeMap::new(),
        copied: Vec::new(),
        uncopied: Vec::new(),
        census: Census { dirty: features & DIRTY != 0, ..Census::default() },
    };
    walk.refer(0, walk.cluster_bytes(), "header");
    let order = if version >= 3 { word(image, 96) >> 32 } else { 4 };
    let counts = walk.refcounts(1 << order);
    walk.tables();
    walk.compare(&counts);
    walk.census
}

/// The census finds no loss; leaks are returned.
#[track_caller]
pub(crate) fn assert_no_loss(image: &[u8]) -> u64 {
    let census = take(image);
    assert!(census.nonsense.is_empty(), "{:#?}", census.nonsense);
    assert!(census.losses.is_empty(), "dirty {}: {:#?}", census.dirty, census.losses);
    census.leaks
}

/// The census finds nothing at all.
#[track_caller]
pub(crate) fn assert_clean(image: &[u8]) {
    assert_eq!(assert_no_loss(image), 0, "clusters leak");
}

/// A big-endian word; zeros past the end of the file.
fn word(image: &[u8], at: u64) -> u64 {
    let at = at as usize;
    if let Some(word) = image.get(at..at + 8) {
        return u64::from_be_bytes(word.try_into().unwrap());
    }
    (at..at + 8).fold(0, |word, at| word << 8 | u64::from(image.get(at).copied().unwrap_or(0)))
}

impl Walk<'_> {
    fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn refer(&mut self, at: u64, len: u64, what: &str) {
        let anywhere = what == "compressed";
        if !(anywhere || at.is_multiple_of(self.cluster_bytes())) || at >> 56 != 0 {
            self.census.nonsense.push(format!("{what} at {at:#x}"));
        }
        for cluster in at >> self.cluster_bits..=(at + len - 1) >> self.cluster_bits {
            *self.references.entry(cluster).or_default() += 1;
            if anywhere {
                *self.packed.entry(cluster).or_default() += 1;
            }
        }
    }

    /// All counts that are not 0, `width` bits each.
    fn refcounts(&mut self, width: u64) -> BTreeMap<u64, u64> {
        let (table, cluster_bytes) = (word(self.image, 48), self.cluster_bytes());
        let table_bytes = (word(self.image, 56) >> 32) * cluster_bytes;
        self.refer(table, table_bytes, "refcount table");
        let per_block = cluster_bytes * 8 / width;
        let mut counts = BTreeMap::new();
        for index in 0..table_bytes / 8 {
            let block = word(self.image, table + index * 8) & !0x1ff;
            if block == 0 {
                continue;
            }
            self.refer(block, cluster_bytes, "refcount block");
            for at in (0..cluster_bytes).step_by(8) {
                let bits = word(self.image, block + at);
                if bits != 0 {
                    let first = index * per_block + at * 8 / width;
                    let found = counts_in(bits, width).into_iter().enumerate();
                    let found = found.map(|(slot, count)| (first + slot as u64, count));
                    counts.extend(found.filter(|(_, count)| *count != 0));
                }
            }
        }
        counts
    }

    fn tables(&mut self) {
        let (l1, entries) = (word(self.image, 40), word(self.image, 36) >> 32);
        if entries > 0 {
            self.refer(l1, entries * 8, "L1 table");
        }
        let entry_bytes = if self.has(EXTENDED_L2) { 16 } else { 8 };
        let per_table = self.cluster_bytes() / entry_bytes;
        for index in 0..entries {
            let entry = word(self.image, l1 + index * 8);
            let table = entry & OFFSET;
            if table != 0 {
                self.refer(table, self.cluster_bytes(), "L2 table");
                self.note_flag(l1 + index * 8, entry, table);
                for slot in 0..per_table {
                    let guest = (index * per_table + slot) << self.cluster_bits;
                    self.entry(table + slot * entry_bytes, guest);
                }
            }
        }
    }

    /// The L2 entry at a place, which maps a guest offset.
    fn entry(&mut self, at: u64, guest: u64) {
        let entry = word(self.image, at);
        let bitmap = if self.has(EXTENDED_L2) { word(self.image, at + 8) } else { 0 };
        let (outside, subclusters) = (self.has(DATA_FILE), self.has(EXTENDED_L2));
        let exists = entry & OFFSET != 0 || outside && entry & COPIED != 0;
        let (allocated, zero) = (bitmap & 0xffff_ffff, bitmap >> 32);
        let mut nonsense = |what: &str| {
            self.census.nonsense.push(format!("{what}: {entry:#x}/{bitmap:#x} for {guest:#x}"));
        };
        if entry & COMPRESSED != 0 {
            if outside || entry & COPIED != 0 || bitmap != 0 {
                nonsense("compressed");
            }
            let x = 70 - self.cluster_bits;
            let host = entry & ((1 << x) - 1);
            let sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;
            self.refer(host, sectors * SECTOR_BYTES - host % SECTOR_BYTES, "compressed");
            return;
        }
        if allocated & zero != 0 || allocated != 0 && !exists {
            nonsense("bitmap");
        }
        if subclusters && entry & 1 != 0 {
            nonsense("zero flag beside a bitmap");
        }
        if outside && exists && (entry & OFFSET != guest || entry & COPIED == 0) {
            nonsense("external data elsewhere");
        }
        if exists && !outside {
            self.refer(entry & OFFSET, self.cluster_bytes(), "data");
            self.note_flag(at, entry, entry & OFFSET);
        }
    }

    fn note_flag(&mut self, at: u64, entry: u64, target: u64) {
        let list = if entry & COPIED == 0 { &mut self.uncopied } else { &mut self.copied };
        list.push((at, target >> self.cluster_bits));
    }

    fn compare(&mut self, counts: &BTreeMap<u64, u64>) {
        let count = |cluster| counts.get(cluster).copied().unwrap_or(0);
        let mut losses = Vec::new();
        for (cluster, references) in &self.references {
            if count(cluster) < *references {
                let count = count(cluster);
                losses.push(format!("cluster {cluster}: count {count}, references {references}"));
            }
            // Without snapshots only compressed data shares clusters, and only with its like.
            let packed = self.packed.get(cluster).copied().unwrap_or(0);
            if *references > packed.max(1) {
                let text = format!("cluster {cluster} is used {references} times");
                self.census.nonsense.push(text);
            }
        }
        for (at, cluster) in &self.copied {
            if count(cluster) != 1 {
                losses.push(format!("entry at {at:#x}: COPIED, count {}", count(cluster)));
            }
        }
        for (at, cluster) in &self.uncopied {
            if count(cluster) == 1 {
                losses.push(format!("entry at {at:#x}: not COPIED, count 1"));
            }
        }
        let referred = |cluster| self.references.get(cluster).copied().unwrap_or(0);
        let leaked = counts.iter().map(|(cluster, count)| count.saturating_sub(referred(cluster)));
        self.census.leaks = leaked.sum();
        self.census.losses.extend(losses);
    }
}

/// The counts in eight bytes of a refcount block: big-endian, or packed from the lowest bit on.
fn counts_in(bits: u64, width: u64) -> Vec<u64> {
    if width == 64 {
        return vec![bits];
    }
    let mask = (1 << width) - 1;
    let bytes = bits.to_be_bytes();
    if width < 8 {
        let per_byte =
            |byte: u8| (0..8 / width).map(move |slot| u64::from(byte) >> (slot * width) & mask);
        return bytes.into_iter().flat_map(per_byte).collect();
    }
    (0..64 / width).map(|slot| bits >> (64 - width * (slot + 1)) & mask).collect()
}

mod tests {
    use super::counts_in;

    #[test]
    fn counts_of_every_width() {
        let bits = 0x5515_0000_0000_0002;
        assert_eq!(counts_in(bits, 2)[..7], [1; 7]);
        assert_eq!((counts_in(bits, 2)[7], counts_in(bits, 2)[28]), (0, 2));
        assert_eq!(counts_in(0x7f << 56, 1)[..9], [1, 1, 1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(counts_in(bits, 8), [0x55, 0x15, 0, 0, 0, 0, 0, 2]);
        assert_eq!(counts_in(bits, 16), [0x5515, 0, 0, 2]);
        assert_eq!(counts_in(bits, 32), [0x5515_0000, 2]);
        assert_eq!(counts_in(bits, 64), [bits]);
    }
}
