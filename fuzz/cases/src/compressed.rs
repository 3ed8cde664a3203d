//! Compressed clusters: any bytes for a stream, and any cluster to be compressed.

use std::sync::Arc;

use qimg::engine::{Compressor, CreateOptions, Error, Image, OpenOptions, create};
use qimg::format::{ClusterBits, CompressionType};
use qimg::io::{MemoryStorage, Storage};

use crate::input::Input;

/// Takes a byte for the shape of the image, the rest once for a stream and once for a cluster.
///
/// # Panics
/// A stream yields anything but a cluster or an error, or a compressed cluster does not come back.
pub fn compressed(bytes: &[u8]) {
    let mut input = Input(bytes);
    let shape = input.u8();
    let compression = match shape & 1 {
        0 => CompressionType::Deflate,
        _ => CompressionType::Zstd,
    };
    // 512 bytes to 64 KiB.
    let bits = ClusterBits::new(9 + u32::from(shape >> 1) % 8).expect("9..=21");
    let image = new_image(bits, compression);
    let cluster_bytes = image.geometry().cluster_bytes() as usize;
    stream(&image, input.bytes(cluster_bytes - 1));
    let mut cluster = bytes[1.min(bytes.len())..].to_vec();
    cluster.resize(cluster_bytes, 0);
    round_trip(&image, &cluster);
}

fn new_image(bits: ClusterBits, compression: CompressionType) -> Image {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut options = CreateOptions::new(8 << bits.get());
    options.cluster_bits = bits;
    options.compression_type = compression;
    create(&*storage, &options).expect("nothing forbids this image");
    Image::open(storage, OpenOptions::new()).expect("a new image opens")
}

fn stream(image: &Image, blob: &[u8]) {
    if blob.is_empty() {
        return;
    }
    image.write_blob(0, blob).expect("a blob fits into a free cluster");
    let mut cluster = vec![0; image.geometry().cluster_bytes() as usize];
    match image.read_at(0, &mut cluster) {
        Ok(()) => {
            // Read again, in part, and from another entry with garbage behind the stream.
            let mut part = vec![0; cluster.len() / 2];
            image.read_at(7, &mut part).expect("what was read can be read again");
            assert!(part == cluster[7..7 + part.len()], "a part is that part");
        }
        Err(Error::Decompress { .. }) => {}
        Err(error) => panic!("memory does not fail: {error}"),
    }
    // A partial overwrite keeps the rest, or is refused and changes nothing.
    if image.write_at(3, b"new").is_ok() {
        cluster[3..6].copy_from_slice(b"new");
        let mut now = vec![0; cluster.len()];
        image.read_at(0, &mut now).expect("a plain cluster is readable");
        assert!(now == cluster, "only the written bytes have changed");
    }
}

fn round_trip(image: &Image, cluster: &[u8]) {
    let bytes = cluster.len() as u64;
    let mut compressor = Compressor::new(image.compression_type(), bytes).expect("compiled in");
    if let Some(blob) = compressor.compress(cluster) {
        assert!(blob.len() < cluster.len(), "smaller, or stored as it is");
    }
    image.write_compressed_at(&mut compressor, 2 * bytes, cluster).expect("the cluster is free");
    let mut now = vec![0; cluster.len()];
    image.read_at(2 * bytes, &mut now).expect("what was compressed here inflates");
    assert!(now == cluster, "what was compressed comes back");
}
