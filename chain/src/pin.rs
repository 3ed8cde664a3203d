//! Base pins: what an overlay remembers of its backing file, and how a file is looked at for that.
//!
//! The content mark is xxh3 over what says how the content lies in the file, and over at most 64
//! blocks of it: the first ones, and others spread evenly up to the last. Holes count as zeros, so that
//! a copy with other holes has the same mark. It tells another file from the same one; a small
//! change inside a large file is more likely noticed by its time of modification.

mod verdict;

use std::path::PathBuf;

use block_io::{Storage, StorageExt};
use cow_engine::{BasePin, PinnedFormat};
use qcow2_format::{Header, IncompatibleFeatures, L1Entry};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::format::Format;

pub use verdict::{BaseFinding, BaseVerdict};
pub(crate) use verdict::{Pair, judge};

/// Bytes of a block that is looked at.
const BLOCK_BYTES: u64 = 4096;
/// Blocks at the beginning that are looked at: partition tables, file system headers.
const FIRST_BLOCKS: u64 = 16;
/// Blocks behind them.
const SPREAD_BLOCKS: u64 = 48;
/// Bytes of the L1 table that are read at once.
const TABLE_BYTES: u64 = 1 << 20;

/// What an overlay remembers of the file in `storage`, its backing file of this format, which its
/// header calls `name`. Reads the header and the L1 table of a qcow2 file, and at most 64 blocks.
///
/// # Errors
/// The file is not of this format, or the host failed; `name` stands for the file then.
pub fn pin_of(storage: &dyn Storage, format: Format, name: &str) -> Result<BasePin> {
    let failed = |source| Error::Storage { layer: PathBuf::from(name), source };
    // Before anything else is read: who changes it meanwhile makes the time another one.
    let modified = storage.modified().map_err(failed)?;
    let file_bytes = storage.len().map_err(failed)?;
    let mut hash = Xxh3::new();
    hash.update(&file_bytes.to_be_bytes());
    let (virtual_size, start) = match format {
        Format::Raw => (file_bytes.next_multiple_of(512), 0),
        Format::Qcow2 => {
            let header = cow_engine::read_header(storage)
                .map_err(|source| Error::Image { layer: PathBuf::from(name), source })?;
            add_layout(&mut hash, &header);
            add_l1_table(&mut hash, storage, &header).map_err(failed)?;
            // Cluster 0 holds names, too, and those may change without the content.
            (header.virtual_size(), header.geometry().cluster_bytes())
        }
    };
    hash.update(&virtual_size.to_be_bytes());
    for place in places(start, file_bytes) {
        add_block(&mut hash, storage, place, file_bytes).map_err(failed)?;
    }
    let pin = BasePin {
        format: pinned(format),
        virtual_size,
        file_bytes,
        modified,
        inode: inode(storage).map_err(failed)?,
        mark: hash.digest128(),
        name_hash: 0,
        content_hash: None,
    };
    Ok(pin.with_name(name.as_bytes()))
}

const fn pinned(format: Format) -> PinnedFormat {
    match format {
        Format::Raw => PinnedFormat::Raw,
        Format::Qcow2 => PinnedFormat::Qcow2,
    }
}

fn inode(storage: &dyn Storage) -> block_io::Result<Option<u64>> {
    Ok(match storage.identity()? {
        Some(block_io::FileId::File { inode, .. }) => Some(inode),
        _ => None,
    })
}

/// How content lies in a qcow2 file, without what writers change in passing (marks, counts, internal
/// snapshots) and without what is said of files below.
fn add_layout(hash: &mut Xxh3, header: &Header) {
    let geometry = header.geometry();
    let passing = IncompatibleFeatures::DIRTY.with(IncompatibleFeatures::CORRUPT);
    let numbers = [
        u64::from(header.version().number()),
        u64::from(geometry.cluster_bits().get()),
        u64::from(header.crypt_method().number()),
        u64::from(header.compression_type().number()),
        header.features().incompatible.without(passing).bits(),
        header.l1_table_offset().get(),
        u64::from(header.l1_entry_count()),
    ];
    numbers.iter().for_each(|number| hash.update(&number.to_be_bytes()));
}

/// Where the L2 tables lie. Whether they are shared with an internal snapshot is another matter.
fn add_l1_table(hash: &mut Xxh3, storage: &dyn Storage, header: &Header) -> block_io::Result<()> {
    let start = header.l1_table_offset().get();
    // The header check has bounded the table.
    let end = start.saturating_add(u64::from(header.l1_entry_count()).saturating_mul(8));
    let mut bytes = vec![0; (end - start).min(TABLE_BYTES) as usize];
    let mut at = start;
    while at < end {
        let len = (end - at).min(TABLE_BYTES);
        let part = &mut bytes[..len as usize];
        storage.read_zero_filled(at, part)?;
        let (words, _) = part.as_chunks_mut::<8>();
        for word in words {
            let entry = L1Entry::from_bits(u64::from_be_bytes(*word));
            *word = entry.with_copied(false).bits().to_be_bytes();
        }
        hash.update(part);
        at += len;
    }
    Ok(())
}

/// Where the blocks lie that are looked at, from `start` on in a file of so many bytes.
fn places(start: u64, file_bytes: u64) -> Vec<u64> {
    let blocks = file_bytes.saturating_sub(start).div_ceil(BLOCK_BYTES);
    let first = blocks.min(FIRST_BLOCKS);
    let rest = blocks - first;
    let spread = (1..=SPREAD_BLOCKS.min(rest)).map(|number| {
        // The last one is the last block; no file has so many that this overflows.
        first - 1 + rest.saturating_mul(number) / SPREAD_BLOCKS.min(rest)
    });
    (0..first).chain(spread).map(|block| start + block * BLOCK_BYTES).collect()
}

fn add_block(
    hash: &mut Xxh3,
    storage: &dyn Storage,
    place: u64,
    file_bytes: u64,
) -> block_io::Result<()> {
    let mut block = [0; BLOCK_BYTES as usize];
    let len = BLOCK_BYTES.min(file_bytes.saturating_sub(place));
    let extent = storage.extent_at(place)?;
    let is_hole = extent.is_none_or(|extent| extent.is_hole() && extent.len >= len);
    if !is_hole {
        storage.read_zero_filled(place, &mut block)?;
    }
    hash.update(&block);
    Ok(())
}

#[cfg(test)]
mod tests {
    use block_io::MemoryStorage;
    use cow_engine::{CreateOptions, Image, OpenOptions};

    use super::*;

    fn mark(storage: &dyn Storage, format: Format) -> u128 {
        pin_of(storage, format, "base").unwrap().mark
    }

    #[test]
    fn blocks_are_spread_from_the_first_to_the_last() {
        assert!(places(0, 0).is_empty());
        assert_eq!(places(0, 1), [0]);
        assert!(places(65_536, 65_536).is_empty());
        for blocks in [16, 17, 63, 64, 65, 1000, 1 << 40] {
            let places = places(8192, 8192 + blocks * BLOCK_BYTES - 1);
            assert_eq!(places.len() as u64, blocks.min(64), "{blocks} blocks");
            assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
            assert_eq!(places[0], 8192);
            assert_eq!(*places.last().unwrap(), 8192 + (blocks - 1) * BLOCK_BYTES);
        }
    }

    #[test]
    fn a_raw_file_is_told_from_another() {
        let base = MemoryStorage::from(&vec![7; 1 << 20][..]);
        let pin = pin_of(&base, Format::Raw, "dir/base.raw").unwrap();
        assert_eq!((pin.virtual_size, pin.file_bytes), (1 << 20, 1 << 20));
        assert_eq!((pin.modified, pin.inode), (None, None));
        assert!(pin.is_about(b"dir/base.raw"));
        let copy = base.clone();
        assert_eq!(mark(&copy, Format::Raw), pin.mark);
        copy.write_at((1 << 20) - 1, &[8]).unwrap();
        assert_ne!(mark(&copy, Format::Raw), pin.mark);
        let longer = base.clone();
        longer.set_len((1 << 20) + 1).unwrap();
        assert_ne!(mark(&longer, Format::Raw), pin.mark);
    }

    #[test]
    fn holes_and_zeros_are_the_same() {
        let sparse = MemoryStorage::new();
        sparse.set_len(1 << 20).unwrap();
        sparse.write_at(4096, &[1; 100]).unwrap();
        let full = MemoryStorage::from(&vec![0; 1 << 20][..]);
        full.write_at(4096, &[1; 100]).unwrap();
        assert_ne!(sparse.allocated_bytes().unwrap(), full.allocated_bytes().unwrap());
        assert_eq!(mark(&sparse, Format::Raw), mark(&full, Format::Raw));
    }

    #[test]
    fn what_writers_change_in_passing_is_no_change() {
        let storage = std::sync::Arc::new(MemoryStorage::new());
        cow_engine::create(&*storage, &CreateOptions::new(1 << 30)).unwrap();
        let before = mark(&*storage, Format::Qcow2);
        // Incompatible features: dirty.
        storage.write_at(79, &[1]).unwrap();
        assert_eq!(mark(&*storage, Format::Qcow2), before);
        storage.write_at(79, &[0]).unwrap();
        let open = || {
            let storage = std::sync::Arc::<MemoryStorage>::clone(&storage);
            Image::open(storage, OpenOptions::new()).unwrap()
        };
        let mut image = open();
        let below =
            cow_engine::BackingReference { name: "deeper".into(), format: Some("raw".into()) };
        image.change_backing(Some(&below), None).unwrap();
        image.close().unwrap();
        assert_eq!(mark(&*storage, Format::Qcow2), before);
        let image = open();
        image.write_at(1 << 29, &[1]).unwrap();
        image.close().unwrap();
        assert_ne!(mark(&*storage, Format::Qcow2), before);
    }

    #[test]
    fn what_is_no_image_is_refused_by_its_name() {
        let error = pin_of(&MemoryStorage::new(), Format::Qcow2, "base.qcow2").unwrap_err();
        insta::assert_snapshot!(error, @"'base.qcow2': header: file length at offset 0x0 is cut off after 0 bytes, allowed is 24 bytes or more");
    }
}
