//! The walk itself: every table, every entry, every reference.

use super::Census;
use super::source::Source;
use super::tally::Tally;

const SECTOR_BYTES: u64 = 512;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// Incompatible features.
const DIRTY: u64 = 1;
const DATA_FILE: u64 = 4;
const EXTENDED_L2: u64 = 16;

/// Bytes of the header that are looked at.
const HEADER_BYTES: usize = 112;

pub(super) struct Walk<'i, S: ?Sized> {
    image: &'i S,
    header: [u8; HEADER_BYTES],
    cluster_bits: u32,
    features: u64,
    references: Tally,
    /// The same, of compressed data only.
    packed: Tally,
    /// The same, by snapshots, which may share what the disk uses.
    kept: Tally,
    in_snapshot: bool,
    /// Entries (where they stand, and where they point) that say "referred to once".
    copied: Vec<(u64, u64)>,
    /// Entries that could say so and do not.
    uncopied: Vec<(u64, u64)>,
    census: Census,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()))
}

impl<'i, S: Source + ?Sized> Walk<'i, S> {
    pub(super) fn over(image: &'i S) -> Self {
        let mut header = [0; HEADER_BYTES];
        image.fetch(0, &mut header);
        let version = half(&header, 4);
        let features = if version >= 3 { word(&header, 72) } else { 0 };
        Self {
            image,
            header,
            cluster_bits: half(&header, 20) as u32,
            features,
            references: Tally::default(),
            packed: Tally::default(),
            kept: Tally::default(),
            in_snapshot: false,
            copied: Vec::new(),
            uncopied: Vec::new(),
            census: Census { dirty: features & DIRTY != 0, ..Census::default() },
        }
    }

    pub(super) fn census(mut self) -> Census {
        if half(&self.header, 0) != 0x5146_49fb || !(9..=21).contains(&self.cluster_bits) {
            self.census.nonsense.push("no header".to_owned());
            return self.census;
        }
        self.refer(0, self.cluster_bytes(), "header");
        let order = if half(&self.header, 4) >= 3 { half(&self.header, 96) } else { 4 };
        let counts = self.refcounts(1 << order.min(6));
        self.tables(word(&self.header, 40), half(&self.header, 36));
        self.snapshots();
        self.compare(&counts);
        self.census
    }

    fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// `len` bytes of the image, as far as that can be a table of it.
    fn read(&mut self, at: u64, len: u64, what: &str) -> Vec<u8> {
        let len_max = self.image.bytes().next_multiple_of(self.cluster_bytes()) + (1 << 20);
        if len > len_max {
            self.census.nonsense.push(format!("{what} of {len:#x} bytes"));
            return Vec::new();
        }
        let mut bytes = vec![0; len as usize];
        self.image.fetch(at, &mut bytes);
        bytes
    }

    fn refer(&mut self, at: u64, len: u64, what: &str) {
        let anywhere = what == "compressed";
        if !(anywhere || at.is_multiple_of(self.cluster_bytes())) || at >> 56 != 0 {
            self.census.nonsense.push(format!("{what} at {at:#x}"));
        }
        for cluster in at >> self.cluster_bits..=(at + len - 1) >> self.cluster_bits {
            self.references.add(cluster, 1);
            if self.in_snapshot {
                self.kept.add(cluster, 1);
            }
            if anywhere {
                self.packed.add(cluster, 1);
            }
        }
    }

    /// All counts that are not 0, `width` bits each.
    fn refcounts(&mut self, width: u64) -> Tally {
        let (table, cluster_bytes) = (word(&self.header, 48), self.cluster_bytes());
        let table_bytes = half(&self.header, 56) * cluster_bytes;
        let mut counts = Tally::default();
        let table_words = self.read(table, table_bytes, "refcount table");
        if table_words.is_empty() {
            self.census.nonsense.push("no refcount table".to_owned());
            return counts;
        }
        self.refer(table, table_bytes, "refcount table");
        let per_block = cluster_bytes * 8 / width;
        for index in 0..table_bytes / 8 {
            let block = word(&table_words, index as usize * 8) & !0x1ff;
            if block == 0 {
                continue;
            }
            self.refer(block, cluster_bytes, "refcount block");
            let block = self.read(block, cluster_bytes, "refcount block");
            for at in (0..cluster_bytes).step_by(8) {
                let bits = word(&block, at as usize);
                if bits != 0 {
                    let first = index * per_block + at * 8 / width;
                    each_count(bits, width, |slot, count| counts.add(first + slot, count));
                }
            }
        }
        counts
    }

    /// An L1 table of so many entries, and everything below it.
    fn tables(&mut self, l1: u64, entries: u64) {
        if entries > 0 {
            self.refer(l1, entries * 8, "L1 table");
        }
        let entry_bytes = if self.has(EXTENDED_L2) { 16 } else { 8 };
        let per_table = self.cluster_bytes() / entry_bytes;
        let l1_words = self.read(l1, entries * 8, "L1 table");
        for (index, entry) in l1_words.chunks_exact(8).map(|entry| word(entry, 0)).enumerate() {
            let table = entry & OFFSET;
            if table == 0 {
                continue;
            }
            self.refer(table, self.cluster_bytes(), "L2 table");
            self.note_flag(l1 + index as u64 * 8, entry, table);
            let words = self.read(table, self.cluster_bytes(), "L2 table");
            for (slot, entry) in words.chunks_exact(entry_bytes as usize).enumerate() {
                let guest = (index as u64 * per_table + slot as u64) << self.cluster_bits;
                let bitmap = if entry_bytes == 16 { word(entry, 8) } else { 0 };
                let at = table + slot as u64 * entry_bytes;
                self.entry(at, word(entry, 0), bitmap, guest);
            }
        }
    }

    fn snapshots(&mut self) {
        let (count, table) = (half(&self.header, 60), word(&self.header, 64));
        let mut at = table;
        self.in_snapshot = true;
        for _ in 0..count {
            let fixed = self.read(at, 40, "snapshot");
            self.tables(word(&fixed, 0), half(&fixed, 8));
            let strings = (half(&fixed, 12) >> 16) + (half(&fixed, 12) & 0xffff);
            at = (at + 40 + half(&fixed, 36) + strings).next_multiple_of(8);
        }
        self.in_snapshot = false;
        if count > 0 {
            self.refer(table, at - table, "snapshot table");
        }
    }

    /// The L2 entry at a place, which maps a guest offset.
    fn entry(&mut self, at: u64, entry: u64, bitmap: u64, guest: u64) {
        if entry == 0 && bitmap == 0 {
            return;
        }
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

    /// Flags are kept true in the tables of the disk only.
    fn note_flag(&mut self, at: u64, entry: u64, target: u64) {
        if self.in_snapshot {
            return;
        }
        let list = if entry & COPIED == 0 { &mut self.uncopied } else { &mut self.copied };
        list.push((at, target >> self.cluster_bits));
    }

    fn compare(&mut self, counts: &Tally) {
        let mut losses = Vec::new();
        for (cluster, references) in self.references.iter() {
            let count = counts.get(cluster);
            if count < references {
                losses.push(format!("cluster {cluster}: count {count}, references {references}"));
            }
            // Compressed data shares clusters, with its like only, and snapshots share them with
            // the disk and with each other.
            let once = self.packed.get(cluster).max(1);
            if self.kept.get(cluster) == 0 && references > once {
                let text = format!("cluster {cluster} is used {references} times");
                self.census.nonsense.push(text);
            }
        }
        for (at, cluster) in &self.copied {
            let count = counts.get(*cluster);
            if count != 1 {
                losses.push(format!("entry at {at:#x}: COPIED, count {count}"));
            }
        }
        for (at, cluster) in &self.uncopied {
            // A snapshot that is gone leaves the flag down until somebody sets it again.
            if counts.get(*cluster) == 1 && self.kept.get(*cluster) == 0 {
                losses.push(format!("entry at {at:#x}: not COPIED, count 1"));
            }
        }
        let surplus =
            |(cluster, count): (u64, u64)| count.saturating_sub(self.references.get(cluster));
        self.census.leaks = counts.iter().map(surplus).sum();
        self.census.losses.extend(losses);
    }
}

/// Tells the counts in eight bytes of a refcount block that are not 0, with their places:
/// big-endian, or packed from the lowest bit on.
fn each_count(bits: u64, width: u64, mut tell: impl FnMut(u64, u64)) {
    let mask = u64::MAX >> (64 - width);
    let slots = 64 / width;
    for slot in 0..slots {
        let shift = match width {
            8.. => 64 - width * (slot + 1),
            // Bytes in order, counts within a byte from its lowest bit on.
            _ => 56 - slot * width / 8 * 8 + slot * width % 8,
        };
        let count = bits >> shift & mask;
        if count != 0 {
            tell(slot, count);
        }
    }
}

#[test]
fn counts_of_every_width() {
    let bits = 0x5515_0000_0000_0002;
    let counts = |bits: u64, width: u64| {
        let mut found = vec![0; (64 / width) as usize];
        each_count(bits, width, |slot, count| found[slot as usize] = count);
        found
    };
    assert_eq!(counts(bits, 2)[..7], [1; 7]);
    assert_eq!((counts(bits, 2)[7], counts(bits, 2)[28]), (0, 2));
    assert_eq!(counts(0x7f << 56, 1)[..9], [1, 1, 1, 1, 1, 1, 1, 0, 0]);
    assert_eq!(counts(bits, 8), [0x55, 0x15, 0, 0, 0, 0, 0, 2]);
    assert_eq!(counts(bits, 16), [0x5515, 0, 0, 2]);
    assert_eq!(counts(bits, 32), [0x5515_0000, 2]);
    assert_eq!(counts(bits, 64), [bits]);
}
