//! Sound images with changes: what the targets start from that take a whole image.

use qimg::io::{MemoryStorage, Storage};

use crate::input::Input;

/// What one input may do: enough to reach every path, not enough to be slow.
const PATCHES_MAX: usize = 64;
/// How far behind the end of the image a patch may begin.
const BEYOND_BYTES: u64 = 128 << 10;

const FIXTURES: [&[u8]; 16] = [
    include_bytes!("../../../fixtures/v3-overlay.qcow2"),
    include_bytes!("../../../fixtures/v2-overlay.qcow2"),
    include_bytes!("../../../fixtures/v3-512.qcow2"),
    include_bytes!("../../../fixtures/zlib.qcow2"),
    include_bytes!("../../../fixtures/zstd.qcow2"),
    include_bytes!("../../../fixtures/zero-clusters.qcow2"),
    include_bytes!("../../../fixtures/internal-snapshot.qcow2"),
    include_bytes!("../../../fixtures/refcount-1.qcow2"),
    include_bytes!("../../../fixtures/refcount-64.qcow2"),
    include_bytes!("../../../fixtures/extended-l2.qcow2"),
    include_bytes!("../../../fixtures/data-file.qcow2"),
    include_bytes!("../../../fixtures/bitmap.qcow2"),
    include_bytes!("../../../fixtures/v2-base.qcow2"),
    include_bytes!("../../../fixtures/own-overlay.qcow2"),
    include_bytes!("../../../fixtures/own-zlib.qcow2"),
    include_bytes!("../../../fixtures/aes.qcow2"),
];

/// First byte of an input whose rest is the image itself, byte for byte.
const WHOLE: u8 = 0xff;

/// An image: the first byte chooses a fixture, the rest are patches; or the rest is the image.
pub(crate) fn image(bytes: &[u8]) -> MemoryStorage {
    let mut input = Input(bytes);
    match input.u8() {
        WHOLE => MemoryStorage::from(input.0),
        choice => patched(FIXTURES[usize::from(choice) % FIXTURES.len()], &mut input),
    }
}

/// An image with patches: each has 3 bytes of offset in units of 8, 1 byte of length, then the
/// bytes. A length of 0 cuts the file off at the offset.
pub(crate) fn patched(fixture: &[u8], input: &mut Input<'_>) -> MemoryStorage {
    let storage = MemoryStorage::from(fixture);
    let places = fixture.len() as u64 + BEYOND_BYTES;
    for _ in 0..PATCHES_MAX {
        if input.is_empty() {
            break;
        }
        let word = input.u32();
        let offset = u64::from(word >> 8) * 8 % places;
        let changed = match word & 0xff {
            0 => storage.len().and_then(|len| storage.set_len(len.min(offset))),
            len => storage.write_at(offset, input.bytes(len as usize)),
        };
        changed.expect("memory takes everything");
    }
    storage
}
