//! Histories on files around the page cache, with clusters down to one block and guest memory at
//! any address, judged by a plain vector and by the real tool.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use block_io::{AlignedBuffer, Create, FileStorage, OpenOptions as FileOptions, Storage};
use cow_engine::{CreateOptions, Image, OpenOptions, ZeroMode};
use testkit::{Folder, Qemu, Rng};

const DISK: usize = 4 << 20;

fn file(folder: &Folder) -> FileStorage {
    let options = FileOptions::new().write(true).create(Create::New).direct(true);
    let file = options.open(folder.path("image.qcow2")).unwrap();
    assert!(file.alignment().request() > 1, "a direct file must have an alignment");
    file
}

/// Guest memory as it comes: mostly where a direct file wants it.
struct Memory {
    bytes: AlignedBuffer,
}

impl Memory {
    fn part(&mut self, rng: &mut Rng, len: usize) -> &mut [u8] {
        let start = if rng.below(4) == 0 { rng.below(4096) as usize } else { 0 };
        &mut self.bytes[start..start + len]
    }
}

fn play(image: &Image, model: &mut [u8], seed: u64, steps: u32) {
    let mut rng = Rng::new(seed);
    let bytes = AlignedBuffer::zeroed(image.storage().alignment(), 300 << 10);
    let mut memory = Memory { bytes };
    for step in 0..steps {
        let unit = [1, 512, 4096][rng.below(3) as usize];
        let most = if rng.below(10) == 0 { 256 << 10 } else { 20_000 };
        let len = (rng.below(most) as usize / unit + 1) * unit;
        let offset = rng.below(((DISK - len) / unit) as u64) as usize * unit;
        let range = &mut model[offset..offset + len];
        let at = offset as u64;
        match rng.below(20) {
            0 => {
                image.write_zeroes_at(at, len as u64, ZeroMode::Unmap).unwrap();
                range.fill(0);
            }
            1 => {
                // Cut to whole clusters by hand: parts keep their bytes.
                let cluster = image.geometry().cluster_bytes() as usize;
                let (start, end) =
                    (offset.next_multiple_of(cluster), (offset + len) / cluster * cluster);
                image.discard_at(at, len as u64).unwrap();
                if start < end {
                    model[start..end].fill(0);
                }
            }
            2 => image.flush().unwrap(),
            3..=11 => {
                let bytes = memory.part(&mut rng, len);
                bytes.fill(step as u8);
                bytes[len / 2] = (step >> 8) as u8;
                image.write_at(at, bytes).unwrap();
                range.copy_from_slice(bytes);
            }
            _ => {
                let bytes = memory.part(&mut rng, len);
                image.read_at(at, bytes).unwrap();
                assert!(bytes == range, "step {step}: {len} bytes at {offset}");
            }
        }
    }
}

fn history(
    cluster_bits: u32,
    extended: bool,
    seed: u64,
    make: impl Fn(FileStorage) -> Arc<dyn Storage>,
) {
    let folder = Folder::new();
    let storage = make(file(&folder));
    let mut options = CreateOptions::new(DISK as u64);
    options.cluster_bits = qcow2_format::ClusterBits::new(cluster_bits).unwrap();
    options.extended_l2 = extended;
    cow_engine::create(&*storage, &options).unwrap();
    let mut model = vec![0; DISK];
    for round in 0..2 {
        let image = Image::open(Arc::clone(&storage), OpenOptions::new()).unwrap();
        play(&image, &mut model, seed + round, 150);
        image.close().unwrap();
    }
    storage.lock(block_io::Lock::none()).unwrap();
    let (image, flat) = (folder.path("image.qcow2"), folder.path("flat.raw"));
    let (image, flat) = (image.display().to_string(), flat.display().to_string());
    Qemu::img(["check", "-q", "-f", "qcow2", &image]).success();
    Qemu::img(["convert", "-f", "qcow2", "-O", "raw", &image, &flat]).success();
    assert!(std::fs::read(flat).unwrap() == model, "the real tool reads other bytes");
}

#[test]
fn clusters_of_one_block() {
    history(9, false, 1, |file| Arc::new(file));
}

#[test]
fn clusters_of_a_page() {
    history(12, false, 2, |file| Arc::new(file));
}

#[test]
fn usual_clusters_and_subclusters() {
    history(16, false, 3, |file| Arc::new(file));
    history(16, true, 4, |file| Arc::new(file));
}

#[cfg(feature = "io-uring")]
#[test]
fn deep_queues_below_the_engine() {
    use block_io::uring::UringOptions;
    let ring = |file: FileStorage| -> Arc<dyn Storage> {
        Arc::new(UringOptions::new().depth(8).piece_bytes(4096).open(file).unwrap())
    };
    history(9, false, 5, ring);
    history(16, false, 6, ring);
}
