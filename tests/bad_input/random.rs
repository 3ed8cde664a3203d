//! Thousands of random damages in this process: whatever happens, no panic, no hang, no change
//! by those who only read or could not open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qimg::chain::{Chain, Format, OpenOptions};
use qimg::engine;
use qimg::io::{MemoryStorage, Storage, StorageExt};
use testkit::{Folder, Pattern, Rng};

use super::image::Image;

/// Damaged copies of each image.
const ROUNDS: u64 = 1500;

/// The images that get damaged, small so that most of their bytes mean something.
fn images() -> Vec<Vec<u8>> {
    let sizes: [(u32, u64); 3] = [(9, 60_000), (12, 400_000), (16, 1 << 20)];
    let ours = sizes.map(|(cluster_bits, size)| {
        let storage = Arc::new(MemoryStorage::new());
        let mut options = engine::CreateOptions::new(size / 512 * 512);
        options.cluster_bits = qimg::format::ClusterBits::new(cluster_bits).unwrap();
        engine::create(&*storage, &options).unwrap();
        let shared: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&storage);
        let image = engine::Image::open(shared, engine::OpenOptions::new()).unwrap();
        let cluster = 1 << cluster_bits;
        let mut compressor = image.compressor().unwrap();
        image.write_compressed_at(&mut compressor, 0, &vec![7; 2 * cluster]).unwrap();
        let data = Pattern::new(1).bytes(0, 2 * cluster + 100);
        image.write_at(4 * cluster as u64 + 10, &data).unwrap();
        let zeros = 5 * cluster as u64;
        image.write_zeroes_at(zeros, 3000, engine::ZeroMode::Keep).unwrap();
        image.close().unwrap();
        contents(&*storage)
    });
    ours.into_iter().chain([Image::new().bytes]).collect()
}

fn contents(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; storage.len().unwrap() as usize];
    storage.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// Flips bits, bytes and words, mostly in the header and the tables; sometimes cuts.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.within(1..5) {
        let len = bytes.len() as u64;
        let at = match rng.below(4) {
            0 => rng.below(120),
            1 => rng.below(len.min(16_384)) / 8 * 8,
            _ => rng.below(len),
        } as usize;
        match rng.below(5) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.next_u64() as u8,
            2 => bytes[at] = 0xff,
            _ => {
                let offset = rng.below(len + 4096) / 512 * 512;
                let flags = *rng.pick(&[0, 1, 1 << 62, 1 << 63, 1 << 63 | 1, 3 << 62]);
                let word = (offset | flags).to_be_bytes();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&word[..end - at]);
            }
        }
    }
    if rng.one_in(6) {
        bytes.truncate(rng.below(bytes.len() as u64) as usize);
    }
}

/// Reads what can be read; a damaged header may promise exabytes.
fn read(image: &engine::Image) {
    let size = image.virtual_size().min(4 << 20);
    let mut buf = vec![0; 64 << 10];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(buf.len() as u64);
        let _ = image.read_at(at, &mut buf[..len as usize]);
        let _ = image.explain(at);
        at += len;
    }
    if let Some(last) = image.virtual_size().checked_sub(512) {
        let _ = image.read_at(last, &mut [0; 512]);
    }
}

fn write(rng: &mut Rng, image: &engine::Image) {
    let size = image.virtual_size().min(4 << 20);
    for _ in 0..4 {
        let at = rng.below(size + 1);
        let len = rng.below((size - at).min(9000) + 1);
        let _ = match rng.below(3) {
            0 => image.write_zeroes_at(at, len, engine::ZeroMode::Unmap),
            _ => image.write_at(at, &vec![9; len as usize]),
        };
    }
    let _ = image.flush();
}

#[test]
fn damaged_images_are_read_and_written_without_panic() {
    let mut rng = Rng::announced(0xbad0_0001);
    let (mut opened, mut refused) = (0, 0);
    for good in images() {
        for _ in 0..ROUNDS {
            let mut bytes = good.clone();
            damage(&mut rng, &mut bytes);
            let begun = Instant::now();
            for read_only in [true, false] {
                let storage = Arc::new(MemoryStorage::from(&bytes[..]));
                let shared: Arc<dyn Storage> = Arc::<MemoryStorage>::clone(&storage);
                let options = engine::OpenOptions::new().read_only(read_only);
                match engine::Image::open(shared, options) {
                    Err(_) => {
                        assert!(contents(&*storage) == bytes, "refusing has changed the file");
                        refused += 1;
                    }
                    Ok(image) => {
                        opened += 1;
                        read(&image);
                        if read_only {
                            drop(image);
                            assert!(contents(&*storage) == bytes, "reading has changed the file");
                        } else {
                            write(&mut rng, &image);
                        }
                    }
                }
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
    }
    // Both happen often, or the damage is of the wrong kind.
    assert!(opened > ROUNDS && refused > ROUNDS, "{opened} opened, {refused} refused");
}

/// The same through the chain, with files: opening, mapping, and nothing on disk changes.
#[test]
fn damaged_files_are_mapped_without_panic() {
    let mut rng = Rng::announced(0xbad0_0002);
    let folder = Folder::new();
    let good = Image::new().bytes;
    let (mut mapped, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut bytes = good.clone();
        damage(&mut rng, &mut bytes);
        let path = folder.write("bad.qcow2", &bytes);
        let options = OpenOptions::new().format(Format::Qcow2).read_only(true);
        match Chain::open(&path, &options) {
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains('\n'), "{error}");
            }
            Ok(chain) => {
                let (mut at, end) = (0, chain.virtual_size().min(8 << 20));
                while at < end {
                    let Ok(status) = chain.status_at(at, end - at) else { break };
                    assert!(status.len > 0 && status.len <= end - at, "{status:?}");
                    at += status.len;
                }
                mapped += 1;
            }
        }
        assert!(std::fs::read(&path).unwrap() == bytes, "looking has changed the file");
    }
    assert!(mapped > 50 && refused > 50, "{mapped} mapped, {refused} refused");
}
