//! The input of the targets that take a whole image: which fixture to start from, then patches.

use block_io::{MemoryStorage, Storage};

/// What one input may do: enough to reach every path, not enough to be slow.
const PATCHES_MAX: usize = 64;
const IMAGE_BYTES_MAX: u64 = 8 << 20;

const FIXTURES: [&[u8]; 8] = [
    include_bytes!("../../fixtures/v3-overlay.qcow2"),
    include_bytes!("../../fixtures/v2-overlay.qcow2"),
    include_bytes!("../../fixtures/v3-512.qcow2"),
    include_bytes!("../../fixtures/zlib.qcow2"),
    include_bytes!("../../fixtures/zstd.qcow2"),
    include_bytes!("../../fixtures/zero-clusters.qcow2"),
    include_bytes!("../../fixtures/internal-snapshot.qcow2"),
    include_bytes!("../../fixtures/refcount-1.qcow2"),
];

/// An image: the first byte chooses a fixture; each patch has 3 bytes of offset in units of 8,
/// 1 byte of length, then the bytes.
pub fn image(input: &[u8]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let (choice, mut input) = input.split_first().map_or((0, input), |(&first, rest)| (first, rest));
    let fixture = FIXTURES[usize::from(choice) % FIXTURES.len()];
    storage.write_at(0, fixture).expect("memory takes everything");
    for _ in 0..PATCHES_MAX {
        let Some((&[a, b, c, len], rest)) = input.split_first_chunk::<4>() else { break };
        let offset = u64::from(u32::from_be_bytes([0, a, b, c])) * 8 % IMAGE_BYTES_MAX;
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(len)));
        storage.write_at(offset, bytes).expect("memory takes everything");
        input = rest;
    }
    storage
}
