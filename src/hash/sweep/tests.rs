//! Hashes of real chains beside hashes of plain bytes, made by the words of the construction.

use std::path::Path;

use chain::{Format, OpenOptions};
use testkit::{Folder, Rng};

use super::*;
use crate::create::{CreateOptions, create};

fn open(path: &Path, format: Format) -> Chain {
    Chain::open(path, &OpenOptions::new().format(format)).unwrap()
}

fn made(path: &Path, format: Format, size: u64) -> Chain {
    create(path, &CreateOptions::new(format, size)).unwrap();
    open(path, format)
}

/// Hashes plain bytes without any of the shortcuts of the real thing but one: nodes of zeros.
fn plain(bytes: &[u8]) -> String {
    let block = 65536;
    let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    let mut zero = hash(&vec![0; block]);
    let mut level: Vec<[u8; 32]> = bytes
        .chunks(block)
        .map(|part| hash(&[part, &vec![0; block - part.len()]].concat()))
        .collect();
    for _ in 0..47 {
        if level.len() % 2 == 1 {
            level.push(zero);
        }
        level = level.chunks(2).map(|pair| hash(&pair.concat())).collect();
        zero = hash(&[zero, zero].concat());
    }
    let content = level.first().copied().unwrap_or(zero);
    let mut all = b"qimg-blake3-1".to_vec();
    all.extend((block as u64).to_le_bytes());
    all.extend((bytes.len() as u64).to_le_bytes());
    all.extend(content);
    blake3::hash(&all).to_string()
}

/// Writes of all sizes, some of zeros, the same into every chain.
fn scatter(chains: &[&Chain], bytes: &mut [u8], rng: &mut Rng, writes: usize) {
    for _ in 0..writes {
        let longest = 1 << (rng.below(20) + 1);
        let start = rng.below(bytes.len() as u64) as usize;
        let len = (rng.below(longest) as usize + 1).min(bytes.len() - start);
        let byte = rng.below(4) as u8;
        bytes[start..start + len].fill(byte);
        for chain in chains {
            chain.write_at(start as u64, &bytes[start..start + len]).unwrap();
        }
    }
}

#[test]
fn the_layout_does_not_matter() {
    let mut rng = Rng::new(7);
    for size in [512, 65536, 66048, (2 << 20) + 512, 9 << 20] {
        let folder = Folder::new();
        let mut bytes = vec![0; size as usize];
        let raw = made(&folder.path("raw"), Format::Raw, size);
        let qcow2 = made(&folder.path("qcow2"), Format::Qcow2, size);
        for round in 0..4 {
            let hashes = [&raw, &qcow2].map(|chain| hash(chain, HashOptions::default()).unwrap());
            assert_eq!(hashes[0].hash, hashes[1].hash, "{size}, round {round}");
            assert_eq!(hashes[0].hash.to_string(), plain(&bytes), "{size}, round {round}");
            scatter(&[&raw, &qcow2], &mut bytes, &mut rng, 5);
        }
    }
}

#[test]
fn an_overlay_shows_what_it_shows() {
    let folder = Folder::new();
    let mut bytes = vec![0; 6 << 20];
    let mut rng = Rng::new(11);
    let base = made(&folder.path("base"), Format::Raw, bytes.len() as u64);
    scatter(&[&base], &mut bytes, &mut rng, 9);
    base.close().unwrap();
    let mut options = CreateOptions::new(Format::Qcow2, bytes.len() as u64);
    let name = "base".to_owned();
    options.qcow2.backing =
        Some(cow_engine::BackingReference { name, format: Some("raw".to_owned()) });
    create(&folder.path("top"), &options).unwrap();
    let top = open(&folder.path("top"), Format::Qcow2);
    top.write_zeroes_at(1 << 20, 1 << 20, true).unwrap();
    bytes[1 << 20..2 << 20].fill(0);
    scatter(&[&top], &mut bytes, &mut rng, 9);
    let found = hash(&top, HashOptions::default()).unwrap();
    assert_eq!(found.hash.to_string(), plain(&bytes));
}

/// Whoever changes the construction must see this.
#[test]
fn known_answers_stay() {
    let folder = Folder::new();
    let chain = made(&folder.path("x"), Format::Raw, 1 << 20);
    let empty = hash(&chain, HashOptions::default()).unwrap();
    assert_eq!((empty.virtual_size, empty.bytes_read), (1 << 20, 0));
    insta::assert_snapshot!(empty.hash, @"87cf45e9c3778999874d52828a164399599938dee826c6983ff458fdd270553c");
    insta::assert_snapshot!(empty.content, @"86c9aa5894ac763a86ca90ffb4e7cc21c738f1cdfd56555222182cd5f57d0b6c");
    chain.write_at(100_000, b"qimg").unwrap();
    let written = hash(&chain, HashOptions::default()).unwrap();
    insta::assert_snapshot!(written.hash, @"909e78a387875f17d9fa5f1ff070e182cbe2fd98ecd2c95f28dda2f81ceb5406");
    insta::assert_snapshot!(written.content, @"67fd68b80fc20a55a7a54a3d79f2cf428eec3aa16865eaaa02f7b7023c1c76b9");
}

#[test]
fn size_counts_and_zeros_at_the_end_are_content_of_both() {
    let folder = Folder::new();
    let short = made(&folder.path("short"), Format::Qcow2, 1 << 20);
    let long = made(&folder.path("long"), Format::Qcow2, 1 << 21);
    for chain in [&short, &long] {
        chain.write_at(7, b"same").unwrap();
    }
    let [short, long] = [short, long].map(|chain| hash(&chain, HashOptions::default()).unwrap());
    assert_eq!(short.content, long.content);
    assert_ne!(short.hash, long.hash);
}

#[test]
fn a_huge_disk_takes_no_time() {
    let folder = Folder::new();
    let chain = made(&folder.path("x"), Format::Qcow2, 1 << 40);
    let last = (1 << 40) - 3;
    chain.write_at(last, b"end").unwrap();
    let mut told = Vec::new();
    let mut on_range = |range| told.push(range);
    let options = HashOptions {
        ranges: Some(RangeBytes::new(1 << 30).unwrap()),
        on_range: Some(&mut on_range),
        progress: None,
    };
    let found = hash(&chain, options).unwrap();
    assert_eq!(found.bytes_read, 65536);
    assert_eq!(told.iter().map(|range| range.start).collect::<Vec<_>>(), [(1 << 40) - (1 << 30)]);
}

#[test]
fn ranges_are_hashes_of_their_bytes() {
    let folder = Folder::new();
    let chain = made(&folder.path("x"), Format::Qcow2, (5 << 16) + 512);
    let mut bytes = vec![0; 6 << 16];
    for start in [0, 65536 + 9, (5 << 16) + 500] {
        bytes[start..start + 5].fill(3);
        chain.write_at(start as u64, &bytes[start..start + 5]).unwrap();
    }
    let mut told = Vec::new();
    let mut seen = Vec::new();
    let options = HashOptions {
        ranges: Some(RangeBytes::new(1 << 16).unwrap()),
        on_range: Some(&mut |range| told.push(range)),
        progress: Some(&mut |behind| seen.push(behind)),
    };
    hash(&chain, options).unwrap();
    let expected: Vec<RangeHash> = bytes
        .chunks(1 << 16)
        .enumerate()
        .filter(|(_, block)| block.iter().any(|&byte| byte != 0))
        .map(|(index, block)| RangeHash { start: (index as u64) << 16, hash: leaf(block) })
        .collect();
    assert_eq!(told, expected);
    assert_eq!(seen.last(), Some(&chain.virtual_size()));
}
