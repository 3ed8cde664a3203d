//! Damage: entries of tables that are replaced or have a bit flipped.

use qimg::format::{Header, L1Entry, RefcountTableEntry};
use testkit::Rng;

/// Damages `bytes` in a few places; the header stays what it is but for the feature bits.
pub(crate) fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) -> Vec<String> {
    let header = Header::decode(bytes).unwrap();
    let words = Words::find(bytes, &header);
    let mut done = Vec::new();
    for _ in 0..rng.within(1..5) {
        let what = match rng.below(12) {
            0 => replace(bytes, rng, &header, &words.l1, "L1"),
            1..=4 => replace(bytes, rng, &header, &words.l2, "L2"),
            5 => replace(bytes, rng, &header, &words.refcount_table, "refcount table"),
            6..=8 => change_count(bytes, rng, &words.blocks),
            9 => truncate(bytes, rng, &header),
            _ => replace(bytes, rng, &header, &words.starts, "some"),
        };
        done.extend(what);
    }
    done
}

/// Offsets of 8-byte words of tables that lie in the file.
struct Words {
    l1: Vec<usize>,
    l2: Vec<usize>,
    refcount_table: Vec<usize>,
    /// First words of every cluster: tables of snapshots and bitmaps are among them.
    starts: Vec<usize>,
    /// Offsets of refcount blocks.
    blocks: Vec<usize>,
}

impl Words {
    fn find(bytes: &[u8], header: &Header) -> Self {
        let cluster = usize::try_from(header.geometry().cluster_bytes()).unwrap();
        let offset = |offset: u64| usize::try_from(offset).unwrap();
        let words = |start: usize, len: usize| -> Vec<usize> {
            (start..(start + len).min(bytes.len() & !7)).step_by(8).collect()
        };
        let l1_start = offset(header.l1_table_offset().get());
        let l1 = words(l1_start, header.l1_entry_count() as usize * 8);
        let tables = l1.iter().filter_map(|&at| L1Entry::from_bits(word(bytes, at)).table_offset());
        let l2 = tables
            .flat_map(|table| words(offset(table.get()), cluster))
            .filter(|&at| word(bytes, at) != 0 || at % 509 == 0)
            .collect();
        let table_start = offset(header.refcount_table_offset().get());
        let table_len = header.refcount_table_clusters() as usize * cluster;
        let refcount_table: Vec<usize> = words(table_start, table_len);
        let entry = |&at: &usize| RefcountTableEntry::from_bits(word(bytes, at)).block_offset();
        let blocks = refcount_table.iter().filter_map(entry).map(|block| offset(block.get()));
        let blocks = blocks.collect();
        // Entries in use, and one that is not.
        let refcount_table =
            refcount_table.into_iter().filter(|&at| word(bytes, at) != 0 || at % 1024 == 8);
        let clusters = (cluster..bytes.len()).step_by(cluster);
        let starts = clusters.flat_map(|start| words(start, 48)).collect();
        Self { l1, l2, refcount_table: refcount_table.collect(), starts, blocks }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| u64::from_be_bytes(word.try_into().unwrap()))
}

fn replace(
    bytes: &mut [u8],
    rng: &mut Rng,
    header: &Header,
    words: &[usize],
    what: &str,
) -> Option<String> {
    let candidates: Vec<usize> = words.iter().copied().filter(|at| at + 8 <= bytes.len()).collect();
    if candidates.is_empty() {
        return None;
    }
    let at = *rng.pick(&candidates);
    let old = word(bytes, at);
    let cluster = header.geometry().cluster_bytes();
    let clusters = bytes.len() as u64 / cluster;
    let new = match rng.below(8) {
        0 => 0,
        1 => old ^ (1 << rng.below(64)),
        2 => old ^ (1 << 63),
        3 => rng.next_u64(),
        // Somewhere in the file, or just behind its end.
        4 => (rng.below(clusters + 3) * cluster) | (rng.below(2) << 63),
        5 => (rng.below(clusters) * cluster) | (rng.below(2) << 9) | (rng.below(2) << 63),
        6 => word(bytes, *rng.pick(&candidates)),
        _ => old ^ (1 << 62),
    };
    bytes[at..at + 8].copy_from_slice(&new.to_be_bytes());
    Some(format!("{what} word at {at:#x}: {old:#x} -> {new:#x}"))
}

fn change_count(bytes: &mut [u8], rng: &mut Rng, blocks: &[usize]) -> Option<String> {
    let block = *rng.pick(blocks);
    let at = block + usize::try_from(rng.below(64)).unwrap();
    let byte = bytes.get_mut(at)?;
    let old = *byte;
    *byte = match rng.below(3) {
        0 => 0,
        1 => old ^ (1 << rng.below(8)),
        _ => old.wrapping_add(1),
    };
    Some(format!("count byte at {at:#x}: {old:#x} -> {byte:#x}"))
}

fn truncate(bytes: &mut Vec<u8>, rng: &mut Rng, header: &Header) -> Option<String> {
    let cluster = usize::try_from(header.geometry().cluster_bytes()).unwrap();
    let cut = usize::try_from(rng.below(3 * cluster as u64)).unwrap();
    let len = bytes.len().checked_sub(cut).filter(|&len| len >= 4 * cluster)?;
    bytes.truncate(len);
    Some(format!("length {len:#x}"))
}
