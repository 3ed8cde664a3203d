//! Levels of compression: each that is offered gives back what went in, fits into its room or
//! says that it does not, and others are refused.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Compressor, CreateOptions, Error, Image, OpenOptions, create};
use qcow2_format::{ClusterBits, CompressionType};
use testkit::Rng;

/// From all alike to all different: the room for a blob becomes tight somewhere on the way.
fn clusters(bytes: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(bytes as u64);
    let mut clusters = Vec::new();
    for noise in 0..=16 {
        let mut cluster = vec![0x5a; bytes];
        rng.fill(&mut cluster[..bytes * noise / 16]);
        clusters.push(cluster);
    }
    // Just at the border of what fits.
    for less in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let mut cluster = vec![0; bytes];
        rng.fill(&mut cluster[..bytes - less]);
        clusters.push(cluster);
    }
    clusters
}

fn image(compression_type: CompressionType, bits: u32) -> Image {
    let options = CreateOptions {
        compression_type,
        cluster_bits: ClusterBits::new(bits).unwrap(),
        ..CreateOptions::new(64 << bits)
    };
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    create(&*storage, &options).unwrap();
    Image::open(storage, OpenOptions::new()).unwrap()
}

fn gives_back_what_went_in(compression: CompressionType, level: i32) {
    for bits in [9, 12, 16, 21] {
        // Many small ones, few large ones.
        let clusters =
            if bits == 21 { clusters(1 << bits)[7..9].to_vec() } else { clusters(1 << bits) };
        let image = image(compression, bits);
        let mut compressor = image.compressor_with_level(Some(level)).unwrap();
        for (number, cluster) in clusters.iter().enumerate() {
            let at = (number as u64) << bits;
            image.write_compressed_at(&mut compressor, at, cluster).unwrap();
            let mut found = vec![0; cluster.len()];
            image.read_at(at, &mut found).unwrap();
            assert!(found == *cluster, "level {level}, {bits} bits, cluster {number}");
        }
    }
}

#[test]
fn every_level_of_deflate() {
    (2..=9).for_each(|level| gives_back_what_went_in(CompressionType::Deflate, level));
}

#[test]
fn every_level_of_zstd() {
    (1..=19).step_by(3).for_each(|level| gives_back_what_went_in(CompressionType::Zstd, level));
}

#[test]
fn higher_levels_find_more() {
    let text: Vec<u8> = (0..65536_u32)
        .flat_map(|number| {
            format!("cluster {} of table {}; ", number % 977, number / 31).into_bytes()
        })
        .take(65536)
        .collect();
    for (compression, low, high) in
        [(CompressionType::Deflate, 2, 9), (CompressionType::Zstd, 1, 19)]
    {
        let len = |level| {
            let mut compressor = Compressor::with_level(compression, 65536, Some(level)).unwrap();
            compressor.compress(&text).unwrap().len()
        };
        assert!(len(high) < len(low), "{compression:?}: {} {}", len(high), len(low));
    }
}

#[test]
fn levels_that_are_not_offered_are_refused() {
    for (compression, level) in [
        (CompressionType::Deflate, 1),
        (CompressionType::Deflate, 0),
        (CompressionType::Deflate, -1),
        (CompressionType::Deflate, 10),
        (CompressionType::Zstd, 0),
        (CompressionType::Zstd, 20),
    ] {
        let refused = Compressor::with_level(compression, 65536, Some(level));
        assert!(matches!(refused, Err(Error::Option { name: "compression level", .. })));
    }
}

/// What does not get smaller, again and again with one compressor, and then something that does.
#[test]
fn clusters_of_noise_do_not_pile_up() {
    for compression in [CompressionType::Deflate, CompressionType::Zstd] {
        for (bits, count) in [(9, 400), (12, 200), (14, 60), (16, 30)] {
            for level in [None, Some(2), Some(9)] {
                let mut compressor = Compressor::with_level(compression, 1 << bits, level).unwrap();
                let mut rng = Rng::new(bits);
                for _ in 0..count {
                    let mut noise = vec![0; 1 << bits];
                    rng.fill(&mut noise);
                    assert_eq!(compressor.compress(&noise), None);
                }
                let blob = compressor.compress(&vec![7; 1 << bits]).unwrap().to_vec();
                let mut fresh = Compressor::with_level(compression, 1 << bits, level).unwrap();
                assert_eq!(fresh.compress(&vec![7; 1 << bits]), Some(&blob[..]), "{bits} bits");
            }
        }
    }
}
