//! Compressed writes: packing, counts, distances, and what the real tools say of them.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::sync::Arc;

use block_io::{Create, OpenOptions as FileOptions, Storage};
use cow_engine::{ClusterType, CreateOptions, Error, Image, OpenOptions, ZeroMode};
use qcow2_format::{ClusterBits, CompressionType};
use testkit::{Folder, Qemu};

const CLUSTER: u64 = 65536;

fn create(path: &Path, options: &CreateOptions) -> Image {
    let storage = FileOptions::new().write(true).create(Create::Truncate).open(path).unwrap();
    cow_engine::create(&storage, options).unwrap();
    drop(storage);
    open(path)
}

fn open(path: &Path) -> Image {
    let storage: Arc<dyn Storage> = Arc::new(FileOptions::new().write(true).open(path).unwrap());
    Image::open(storage, OpenOptions::new()).unwrap()
}

/// Text-like bytes: compressible, different in every cluster.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = ["cluster ", "table ", "overlay ", "backing ", "refcount ", "entry ", "\n"];
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(words[(state >> 33) as usize % words.len()].as_bytes());
        if state >> 60 == 0 {
            bytes.extend_from_slice(&state.to_be_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn round_trip(compression: CompressionType, cluster_bits: u32, size: u64) {
    let folder = Folder::new();
    let (path, raw) = (folder.path("c.qcow2"), folder.path("c.raw"));
    let mut options = CreateOptions::new(size);
    options.compression_type = compression;
    options.cluster_bits = ClusterBits::new(cluster_bits).unwrap();
    let image = create(&path, &options);
    let data = text(7, size as usize);
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &data).unwrap();
    let mut back = vec![0; data.len()];
    image.read_at(0, &mut back).unwrap();
    assert!(back == data, "read back");
    image.close().unwrap();
    std::fs::write(&raw, &data).unwrap();
    Qemu::check(&path);
    Qemu::assert_same(("raw", &raw), ("qcow2", &path));
}

#[test]
fn what_is_written_compressed_reads_back_everywhere() {
    for cluster_bits in [9, 12, 16, 21] {
        round_trip(CompressionType::Deflate, cluster_bits, 3 << 20);
        round_trip(CompressionType::Zstd, cluster_bits, 3 << 20);
    }
    // The last cluster of the disk is padded.
    round_trip(CompressionType::Deflate, 16, 100 * 1024);
    round_trip(CompressionType::Zstd, 16, 100 * 1024);
}

#[test]
fn small_blobs_share_a_host_cluster_and_each_counts() {
    let folder = Folder::new();
    let path = folder.path("c.qcow2");
    let image = create(&path, &CreateOptions::new(1 << 20));
    let mut compressor = image.compressor().unwrap();
    for number in 0..4 {
        let data = vec![number + 1; CLUSTER as usize];
        image.write_compressed_at(&mut compressor, u64::from(number) * CLUSTER, &data).unwrap();
    }
    assert_eq!(image.explain(0).unwrap().refcount, Some(4));
    image.write_at(0, &[9; 512]).unwrap();
    image.flush().unwrap();
    assert_eq!(image.explain(CLUSTER).unwrap().refcount, Some(3));
    image.close().unwrap();
    Qemu::check(&path);
}

#[test]
fn overwriting_every_blob_leaks_nothing() {
    let folder = Folder::new();
    let path = folder.path("c.qcow2");
    let image = create(&path, &CreateOptions::new(2 << 20));
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &text(3, 2 << 20)).unwrap();
    image.close().unwrap();
    let image = open(&path);
    for number in 0..32 {
        image.write_at(number * CLUSTER + 100, &[5; 1000]).unwrap();
    }
    image.close().unwrap();
    Qemu::check(&path);
}

#[test]
fn the_packing_cursor_does_not_outlive_its_cluster() {
    let folder = Folder::new();
    let path = folder.path("c.qcow2");
    let image = create(&path, &CreateOptions::new(1 << 20));
    let mut compressor = image.compressor().unwrap();
    let fill = |byte: u8| vec![byte; CLUSTER as usize];
    image.write_compressed_at(&mut compressor, 0, &fill(1)).unwrap();
    image.write_at(0, &fill(2)).unwrap();
    image.flush().unwrap();
    image.write_at(CLUSTER, &fill(3)).unwrap();
    image.write_compressed_at(&mut compressor, 2 * CLUSTER, &fill(4)).unwrap();
    for (number, byte) in [(0, 2), (1, 3), (2, 4)] {
        let mut back = fill(0);
        image.read_at(number * CLUSTER, &mut back).unwrap();
        assert!(back == fill(byte), "cluster {number}");
    }
    image.close().unwrap();
    Qemu::check(&path);
}

#[test]
fn incompressible_clusters_are_stored_as_they_are() {
    let folder = Folder::new();
    let image = create(&folder.path("c.qcow2"), &CreateOptions::new(1 << 20));
    let mut noise = vec![0; CLUSTER as usize];
    testkit::Rng::new(5).fill(&mut noise);
    let mut compressor = image.compressor().unwrap();
    image.write_compressed_at(&mut compressor, 0, &noise).unwrap();
    assert!(matches!(image.explain(0).unwrap().cluster, Ok(ClusterType::Normal { .. })));
}

#[test]
fn compressed_writes_need_whole_free_clusters() {
    let folder = Folder::new();
    let image = create(&folder.path("c.qcow2"), &CreateOptions::new(1 << 20));
    let mut compressor = image.compressor().unwrap();
    let data = vec![1; CLUSTER as usize];
    let unaligned = image.write_compressed_at(&mut compressor, 512, &data);
    assert!(matches!(unaligned, Err(Error::Plan { .. })), "{unaligned:?}");
    let part = image.write_compressed_at(&mut compressor, 0, &data[..512]);
    assert!(matches!(part, Err(Error::Plan { .. })), "{part:?}");
    image.write_compressed_at(&mut compressor, 0, &data).unwrap();
    let again = image.write_compressed_at(&mut compressor, 0, &data);
    assert!(matches!(again, Err(Error::Allocated { .. })), "{again:?}");
    // A plain zero cluster keeps no host cluster: it may be replaced.
    image.write_zeroes_at(CLUSTER, CLUSTER, ZeroMode::Unmap).unwrap();
    image.write_compressed_at(&mut compressor, CLUSTER, &data).unwrap();
}

/// What another compressor makes would be read back as damage.
#[test]
fn a_compressor_of_another_image_is_refused() {
    let folder = Folder::new();
    let options = CreateOptions::new(4 * CLUSTER);
    let image = create(&folder.path("deflate.qcow2"), &options);
    let others = [
        CreateOptions { compression_type: CompressionType::Zstd, ..options.clone() },
        CreateOptions { cluster_bits: ClusterBits::new(12).unwrap(), ..options },
    ];
    for options in others {
        let other = create(&folder.path("other.qcow2"), &options);
        let mut compressor = other.compressor().unwrap();
        let refused = image.write_compressed_at(&mut compressor, 0, &text(1, CLUSTER as usize));
        assert!(matches!(refused, Err(Error::Plan { .. })), "{refused:?}");
    }
    let mut compressor = image.compressor().unwrap();
    assert_eq!(compressor.compress(&[7; 512]), None, "no whole cluster");
    assert!(compressor.compress(&[7; CLUSTER as usize]).is_some());
    image.write_compressed_at(&mut compressor, 0, &text(1, CLUSTER as usize)).unwrap();
}
