//! Images that take long to come by otherwise, made by hand.

use std::sync::OnceLock;

use block_io::{MemoryStorage, Storage};
use cow_engine::Preallocation;
use testkit::stamps::sectors;

use super::images::{poke, word};
use super::kinds::{Kind, Media};
use super::world::Start;

const COPIED: u64 = 1 << 63;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// All of the disk is data, in clusters and a table that somebody else refers to as well.
pub(crate) fn shared() -> Start {
    const STAMP: u64 = 7;
    static MADE: OnceLock<Start> = OnceLock::new();
    fresh(MADE.get_or_init(|| {
        let kind = Kind { preallocation: Preallocation::Full, ..Kind::standard(6 * 1024, 10) };
        let mut start = Start::new(kind);
        start.stamps.fill(STAMP);
        let image = &*start.media.image;
        let bytes = sectors(STAMP, 0, start.stamps.len());
        let l1 = word(image, 40);
        let table = word(image, l1) & OFFSET;
        poke(image, l1, |entry| entry & !COPIED);
        count_once_more(image, kind, table);
        for (index, cluster) in bytes.chunks(1024).enumerate() {
            let entry = table + index as u64 * 8;
            poke(image, entry, |entry| entry & !COPIED);
            let host = word(image, entry) & OFFSET;
            count_once_more(image, kind, host);
            image.write_at(host, cluster).unwrap();
            start.leaks += 1;
        }
        start.leaks += 1;
        start
    }))
}

/// The only refcount block counts the cluster at `host` once more, in 16 bits.
fn count_once_more(image: &MemoryStorage, kind: Kind, host: u64) {
    let block = word(image, word(image, 48));
    let slot = host / kind.cluster_bytes();
    let shift = 48 - slot % 4 * 16;
    poke(image, block + slot / 4 * 8, |counts| counts + (1 << shift));
}

/// A small disk in a file that has six clusters left until its refcount table must grow: the others
/// are counted, by nobody's doing.
pub(crate) fn nearly_full() -> Start {
    // Blocks count 64 clusters each, of which the one cluster of the table names 64.
    const PER_BLOCK: u64 = 64;
    const LEFT: u64 = 6;
    static MADE: OnceLock<Start> = OnceLock::new();
    fresh(MADE.get_or_init(|| {
        let mut start = Start::new(Kind::standard(16 * 512, 9).width(6));
        let image = &*start.media.image;
        let used = image.len().unwrap().div_ceil(512);
        let end = PER_BLOCK * 64;
        image.set_len((end - LEFT) * 512).unwrap();
        let table = word(image, 48);
        for block in 1..PER_BLOCK {
            // Somewhere that its predecessors count.
            poke(image, table + block * 8, |_| (used + block) * 512);
        }
        for cluster in used..end - LEFT {
            let block = word(image, table + cluster / PER_BLOCK * 8);
            poke(image, block + cluster % PER_BLOCK * 8, |_| 1);
        }
        start.leaks = end - LEFT - used - (PER_BLOCK - 1);
        start
    }))
}

/// The same with files of its own.
fn fresh(made: &Start) -> Start {
    let media: Media<MemoryStorage> = made.media.wrapped(|file| (**file).clone());
    Start { media, ..made.clone() }
}

#[test]
fn they_are_what_they_claim_to_be() {
    for start in [shared(), nearly_full()] {
        assert_eq!(testkit::census::assert_no_loss(&*start.media.image), start.leaks);
    }
}
