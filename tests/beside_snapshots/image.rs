//! Images with snapshots, changed by our engine, judged by everybody.

use std::path::Path;
use std::sync::Arc;

use qimg::check::{CheckOptions, check};
use qimg::engine::{Error, Image, OpenOptions, ZeroMode};
use qimg::io::{Locking, MemoryStorage, OpenOptions as FileOptions, Storage};
use testkit::{Folder, ModelDisk, Pattern, Qemu, Rng};

/// What an image is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) options: &'static str,
    pub(crate) cluster: u64,
    pub(crate) size: u64,
}

pub(crate) const SHAPES: [Shape; 6] = [
    Shape { options: "cluster_size=512", cluster: 512, size: 80 << 10 },
    Shape { options: "cluster_size=512,compat=0.10", cluster: 512, size: 80 << 10 },
    Shape { options: "cluster_size=2k,refcount_bits=8", cluster: 2048, size: 1 << 20 },
    Shape { options: "cluster_size=64k,compat=0.10", cluster: 65536, size: 3 << 20 },
    Shape { options: "cluster_size=16k,extended_l2=on", cluster: 16384, size: 2 << 20 },
    Shape { options: "cluster_size=2M,lazy_refcounts=on", cluster: 2 << 20, size: 12 << 20 },
];

impl Shape {
    pub(crate) fn create(self, path: &Path) {
        let words = ["create", "-q", "-f", "qcow2", "-o", self.options, path.to_str().unwrap()];
        Qemu::img(words.into_iter().chain([self.size.to_string().as_str()])).success();
    }
}

/// A few words for `qemu-img snapshot`.
pub(crate) fn snapshot(flag: &str, name: &str, path: &Path) {
    Qemu::img(["snapshot", flag, name, path.to_str().unwrap()]).success();
}

pub(crate) fn open(path: &Path) -> Image {
    let file = FileOptions::new().write(true).locking(Locking::Off).open(path).unwrap();
    Image::open(Arc::new(file), OpenOptions::new()).unwrap()
}

/// What a snapshot shows, by the real tool.
pub(crate) fn seen_in(name: &str, path: &Path, folder: &Folder) -> Vec<u8> {
    let raw = folder.path("snapshot.raw");
    let words = ["convert", "-f", "qcow2", "-O", "raw", "-l"];
    let names = [name, path.to_str().unwrap(), raw.to_str().unwrap()];
    Qemu::img(words.into_iter().chain(names)).success();
    std::fs::read(raw).unwrap()
}

/// The real check finds nothing, and ours counts the same.
#[track_caller]
pub(crate) fn assert_sound(path: &Path) {
    Qemu::check(path);
    let words = ["check", "-f", "qcow2", "--output=json", path.to_str().unwrap()];
    let theirs = Qemu::img(words).success().json();
    let ours =
        check(&MemoryStorage::from(&std::fs::read(path).unwrap()[..]), CheckOptions::default());
    let ours = ours.unwrap();
    assert_eq!((ours.corruptions, ours.leaks, ours.check_errors), (0, 0, 0), "{:?}", ours.findings);
    for (name, ours) in [
        ("total-clusters", ours.total_clusters),
        ("allocated-clusters", ours.allocated_clusters),
        ("fragmented-clusters", ours.fragmented_clusters),
        ("compressed-clusters", ours.compressed_clusters),
        ("image-end-offset", ours.image_end_offset),
    ] {
        assert_eq!(theirs[name].as_u64().unwrap_or(0), ours, "{name}");
    }
}

/// One change of the disk, told to the model, too.
pub(crate) fn change(image: &Image, model: &mut ModelDisk, rng: &mut Rng) -> String {
    let (size, cluster) = (image.virtual_size(), image.geometry().cluster_bytes());
    let mut offset = rng.below(size);
    let mut len = 1 + rng.below(3 * cluster);
    if rng.one_in(2) {
        offset -= offset % cluster;
        len = len.next_multiple_of(cluster);
    }
    let len = len.min(size - offset);
    let mode = if rng.one_in(2) { ZeroMode::Keep } else { ZeroMode::Unmap };
    match rng.below(7) {
        0 => {
            image.write_zeroes_at(offset, len, mode).unwrap();
            model.zero(offset, len as usize);
            format!("zero {offset}+{len} {mode:?}")
        }
        1 => {
            image.discard_at(offset, len).unwrap();
            let start = offset.next_multiple_of(cluster);
            let end = if offset + len == size { size } else { (offset + len) / cluster * cluster };
            if start < end {
                model.zero(start, (end - start) as usize);
            }
            format!("discard {offset}+{len}")
        }
        2 => {
            let offset = offset - offset % cluster;
            let bytes = vec![rng.below(255) as u8 + 1; cluster.min(size - offset) as usize];
            let mut compressor = image.compressor().unwrap();
            match image.write_compressed_at(&mut compressor, offset, &bytes) {
                Ok(()) => model.write(offset, &bytes),
                Err(Error::Allocated { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            format!("compress {offset}")
        }
        _ => {
            let bytes = Pattern::new(rng.next_u64()).bytes(offset, len as usize);
            image.write_at(offset, &bytes).unwrap();
            model.write(offset, &bytes);
            format!("write {offset}+{len}")
        }
    }
}

/// The image as it would be with the snapshot's tables for its own, to be read only.
pub(crate) fn as_snapshot(image: &[u8], index: usize) -> Arc<dyn Storage> {
    let word = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
    let mut at = word(64) as usize;
    for _ in 0..index {
        let strings = usize::from((half(at + 12) >> 16) as u16) + usize::from(half(at + 12) as u16);
        at = (at + 40 + half(at + 36) as usize + strings).next_multiple_of(8);
    }
    let mut view = image.to_vec();
    view[36..40].copy_from_slice(&image[at + 8..at + 12]);
    view[40..48].copy_from_slice(&image[at..at + 8]);
    // Its tables are the snapshot's, too.
    view[60..64].fill(0);
    Arc::new(MemoryStorage::from(&view[..]))
}
