//! A content hash of what a guest sees: the same for raw, qcow2 and chains, however they store it.
//!
//! # Construction
//!
//! The name of the construction is [`CONSTRUCTION`]; whoever changes anything below changes it too.
//! All hashes are BLAKE3 with 32 bytes of output, without a key.
//!
//! 1. The disk, followed by zeros without end, is cut into blocks of [`BLOCK_BYTES`] = 2^16 bytes:
//!    block `i` holds the guest bytes from `i * 2^16` on.
//! 2. A *leaf* is the hash of a block's 65536 bytes.
//! 3. A *node* of level `k + 1` is the hash of the 64 bytes of its two children of level `k`, left one
//!    first. Leaves have level 0. The only node of level [`LEVELS`] = 47 covers 2^63 bytes, more than any
//!    disk has: it is the *content*.
//! 4. The *hash* is the hash of 61 bytes: the 13 ASCII characters `qimg-blake3-1`, the block size and the
//!    size of the virtual disk in bytes, both as 64-bit numbers, little-endian, and the content.
//!
//! The inputs of the three kinds have different lengths, so that none is ever taken for another. Disks
//! of different sizes have different hashes, even where the longer one only has more zeros; their
//! contents are then equal. A range of `2^(16 + k)` bytes that starts at a multiple of its length is
//! hashed by a node of level `k`, so hashes of ranges cost nothing extra and prove what they say.
//!
//! Zeros are not read where metadata tells that they are there: the node of zeros of each level is
//! computed once, and any number of zero blocks is then a few steps.
//!
//! BLAKE3 is not broken by whoever chooses the content: equal hashes mean equal disks, images of
//! strangers included.

mod digest;
mod error;
mod range;
mod sweep;
mod tree;

pub use digest::{Digest, NoDigest};
pub use error::HashError;
pub use range::{NoRange, RangeBytes, RangeHash};
pub use sweep::{HashOptions, hash};

/// Name of the construction, to be kept beside hashes that are kept.
pub const CONSTRUCTION: &str = "qimg-blake3-1";
/// Bytes of a block.
pub const BLOCK_BYTES: u64 = 1 << BLOCK_BITS;
/// Level of the node that covers everything.
pub const LEVELS: u32 = 63 - BLOCK_BITS;

const BLOCK_BITS: u32 = 16;

/// What a guest sees, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestHash {
    /// The hash of size and content.
    pub hash: Digest,
    /// The hash of the content alone, zeros at the end left out.
    pub content: Digest,
    /// Size of the virtual disk in bytes.
    pub virtual_size: u64,
    /// Guest bytes that were read; the rest was known to be zeros.
    pub bytes_read: u64,
}

impl GuestHash {
    fn new(content: Digest, virtual_size: u64, bytes_read: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CONSTRUCTION.as_bytes());
        hasher.update(&BLOCK_BYTES.to_le_bytes());
        hasher.update(&virtual_size.to_le_bytes());
        hasher.update(content.as_bytes());
        let hash = Digest::from(hasher.finalize());
        Self { hash, content, virtual_size, bytes_read }
    }
}
