//! An independent census: walks the tables of an image byte by byte, sharing no code with what it
//! judges, counts who refers to which cluster, and compares with the refcounts on disk.

use std::collections::BTreeMap;

use qcow2_format::limit::SECTOR_BYTES;

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// What is wrong with an image.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// A count is lower than the references, or a flag lies: data will be lost.
    pub(crate) losses: Vec<String>,
    /// Clusters that are counted and not used.
    pub(crate) leaks: u64,
}

struct Walk<'i> {
    image: &'i [u8],
    cluster_bits: u32,
    references: BTreeMap<u64, u64>,
    /// Entries (where they stand, and where they point) that say "referred to once".
    copied: Vec<(u64, u64)>,
    /// Entries that could say so and do not.
    uncopied: Vec<(u64, u64)>,
    census: Census,
}

/// Takes the census of a version 2 or 3 image with 16-bit counts, no snapshots and no bitmaps.
pub(crate) fn take(image: &[u8]) -> Census {
    let cluster_bits = word(image, 20) >> 32;
    let mut walk = Walk {
        image,
        cluster_bits: cluster_bits as u32,
        references: BTreeMap::new(),
        copied: Vec::new(),
        uncopied: Vec::new(),
        census: Census::default(),
    };
    walk.refer(0, walk.cluster_bytes(), "header");
    let counts = walk.refcounts();
    walk.tables();
    walk.compare(&counts);
    walk.census
}

/// The census finds no loss; leaks are returned.
#[track_caller]
pub(crate) fn assert_no_loss(image: &[u8]) -> u64 {
    let census = take(image);
    assert!(census.losses.is_empty(), "{:#?}", census.losses);
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

    fn refer(&mut self, at: u64, len: u64, what: &str) {
        let anywhere = what == "compressed" || at.is_multiple_of(self.cluster_bytes());
        if !anywhere || at >> 56 != 0 {
            self.census.losses.push(format!("{what} at {at:#x}"));
        }
        for cluster in at >> self.cluster_bits..=(at + len - 1) >> self.cluster_bits {
            *self.references.entry(cluster).or_default() += 1;
        }
    }

    fn refcounts(&mut self) -> BTreeMap<u64, u64> {
        let (table, cluster_bytes) = (word(self.image, 48), self.cluster_bytes());
        let table_bytes = (word(self.image, 56) >> 32) * cluster_bytes;
        self.refer(table, table_bytes, "refcount table");
        let mut counts = BTreeMap::new();
        for index in 0..table_bytes / 8 {
            let block = word(self.image, table + index * 8) & !0x1ff;
            if block == 0 {
                continue;
            }
            self.refer(block, cluster_bytes, "refcount block");
            let per_block = cluster_bytes / 2;
            for slot in 0..per_block {
                let count = word(self.image, block + slot * 2) >> 48;
                if count != 0 {
                    counts.insert(index * per_block + slot, count);
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
        for index in 0..entries {
            let entry = word(self.image, l1 + index * 8);
            let table = entry & OFFSET;
            if table != 0 {
                self.refer(table, self.cluster_bytes(), "L2 table");
                self.note_flag(l1 + index * 8, entry, table);
                self.l2_table(table);
            }
        }
    }

    fn l2_table(&mut self, table: u64) {
        for index in 0..self.cluster_bytes() / 8 {
            let at = table + index * 8;
            let entry = word(self.image, at);
            if entry & COMPRESSED != 0 {
                let x = 70 - self.cluster_bits;
                let host = entry & ((1 << x) - 1);
                let sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;
                self.refer(host, sectors * SECTOR_BYTES - host % SECTOR_BYTES, "compressed");
            } else if entry & OFFSET != 0 {
                self.refer(entry & OFFSET, self.cluster_bytes(), "data");
                self.note_flag(at, entry, entry & OFFSET);
            }
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

/// A census that cannot fail would prove nothing.
mod tests {
    use super::*;
    use crate::images;

    fn written() -> Vec<u8> {
        let storage = images::memory(1 << 20, 16);
        let image = images::open(&storage);
        image.write_at(0, &[1; 100]).unwrap();
        image.write_at(5 << 16, &[1; 100]).unwrap();
        image.close().unwrap();
        images::bytes(&*storage)
    }

    #[test]
    fn a_good_image_is_clean() {
        assert_clean(&written());
    }

    #[test]
    fn a_count_too_low_is_a_loss_and_one_too_high_a_leak() {
        let mut image = written();
        let data = 0x2_0000 + 5 * 2;
        image[data + 1] = 0;
        assert!(take(&image).losses[0].contains("cluster 5: count 0, references 1"));
        image[data + 1] = 1;
        image[data + 7] = 1;
        assert_eq!((take(&image).losses, take(&image).leaks), (vec![], 1));
    }

    #[test]
    fn a_second_reference_is_a_loss() {
        let mut image = written();
        let first = image[0x4_0000..0x4_0008].to_vec();
        image[0x4_0028..0x4_0030].copy_from_slice(&first);
        assert!(!take(&image).losses.is_empty());
    }

    #[test]
    fn a_wrong_copied_flag_is_a_loss() {
        let mut image = written();
        image[0x4_0000] &= 0x7f;
        assert!(take(&image).losses[0].contains("not COPIED, count 1"));
    }
}
