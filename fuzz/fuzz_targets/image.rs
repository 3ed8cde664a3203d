//! A whole image from arbitrary bytes: opened, read, written, flushed. No panic, and a refused
//! open changes nothing. The input is a sparse image: a list of (offset, bytes) patches.

#![no_main]

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Image, OpenOptions, ZeroMode};
use libfuzzer_sys::fuzz_target;

/// What one input may do: enough to reach every path, not enough to be slow.
const PATCHES_MAX: usize = 64;
const IMAGE_BYTES_MAX: u64 = 8 << 20;

fuzz_target!(|input: &[u8]| {
    let storage = Arc::new(MemoryStorage::new());
    let base = include_bytes!("../../fixtures/v3-overlay.qcow2");
    storage.write_at(0, base).expect("memory takes everything");
    patch(&storage, input);
    read_only(Arc::clone(&storage) as Arc<dyn Storage>);
    writable(storage);
});

/// Applies patches: 3 bytes of offset in units of 8, 1 byte of length, then the bytes.
fn patch(storage: &MemoryStorage, mut input: &[u8]) {
    for _ in 0..PATCHES_MAX {
        let Some((&[a, b, c, len], rest)) = input.split_first_chunk::<4>() else { return };
        let offset = u64::from(u32::from_be_bytes([0, a, b, c])) * 8 % IMAGE_BYTES_MAX;
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(len)));
        storage.write_at(offset, bytes).expect("memory takes everything");
        input = rest;
    }
}

fn read_only(storage: Arc<dyn Storage>) {
    let Ok(image) = Image::open(storage, OpenOptions::new().read_only(true)) else { return };
    let size = image.virtual_size();
    let mut buf = vec![0; 8192];
    for at in [0, 4096, 65536, size / 2, size.saturating_sub(8192)] {
        let len = (size.saturating_sub(at)).min(8192) as usize;
        let _ = image.plan_read(at, len as u64);
        let _ = image.read_at(at, &mut buf[..len]);
        let _ = image.explain(at);
    }
}

fn writable(storage: Arc<MemoryStorage>) {
    let before = storage.to_vec();
    let Ok(image) = Image::open(Arc::clone(&storage) as Arc<dyn Storage>, OpenOptions::new()) else {
        assert!(storage.to_vec() == before, "a refused open changes nothing");
        return;
    };
    let size = image.virtual_size();
    for at in [0, 5000, 65536 * 3 + 512, size / 2, size.saturating_sub(512)] {
        let len = size.saturating_sub(at).min(70000);
        let _ = image.write_at(at, &vec![0x5a; len as usize]);
        let _ = image.write_zeroes_at(at, len, ZeroMode::Unmap);
    }
    let _ = image.flush();
    let _ = image.close();
}
