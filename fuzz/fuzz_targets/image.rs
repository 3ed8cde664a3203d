//! A whole image from arbitrary bytes: opened, read, written, flushed. No panic, and a refused
//! open changes nothing. The input is a patched fixture.

#![no_main]

use std::sync::Arc;

use block_io::{MemoryStorage, Storage};
use cow_engine::{Image, OpenOptions, ZeroMode};
use libfuzzer_sys::fuzz_target;

mod patched;

fuzz_target!(|input: &[u8]| {
    let storage = Arc::new(patched::image(input));
    read_only(Arc::clone(&storage) as Arc<dyn Storage>);
    writable(storage);
});

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
        let _ = image.write_zeroes_at(at, len / 2, ZeroMode::Unmap);
        let _ = image.write_zeroes_at(at, len, ZeroMode::Keep);
        let _ = image.discard_at(at, len);
        let _ = image.write_at(at, &vec![0xa5; (len / 3) as usize]);
    }
    let _ = image.flush();
    if let Ok(mut compressor) = image.compressor() {
        let cluster = image.geometry().cluster_bytes();
        let data = vec![7; cluster.min(size) as usize];
        let _ = image.write_compressed_at(&mut compressor, 0, &data);
    }
    let _ = image.flush();
    let _ = image.close();
}
