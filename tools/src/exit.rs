//! Exit codes: the contract with scripts, the same numbers qemu-img uses.

/// Done, and the answer is the good one.
pub const SUCCESS: u8 = 0;
/// The request could not be carried out, or the command line was wrong.
pub const FAILURE: u8 = 1;

/// `check` found corruption.
pub const CHECK_CORRUPT: u8 = 2;
/// `check` found leaked clusters and nothing worse.
pub const CHECK_LEAKS: u8 = 3;
/// `check` was asked about a format that has nothing to check.
pub const CHECK_UNSUPPORTED: u8 = 63;

/// `compare` found a difference.
pub const COMPARE_DIFFERENT: u8 = 1;
/// `compare` could not open one of its images.
pub const COMPARE_OPEN: u8 = 2;
/// `compare` could not print its answer.
pub const COMPARE_OUTPUT: u8 = 2;
/// `compare` could not learn what is allocated.
pub const COMPARE_STATUS: u8 = 3;
/// `compare` could not read.
pub const COMPARE_READ: u8 = 4;

/// `hash --compare` found a difference.
pub const HASH_DIFFERENT: u8 = 1;
/// `hash --compare` has no answer.
pub const HASH_FAILED: u8 = 2;

/// `audit`: the policy does not allow the image.
pub const AUDIT_REFUSED: u8 = 10;
/// `audit`: the policy would allow the image, but it is damaged.
pub const AUDIT_DAMAGED: u8 = 11;

/// `chain restore`: the files are no complete chain.
pub const CHAIN_INCOMPLETE: u8 = 12;
/// `chain verify` and `chain restore`: a backing file is not the one that its overlay was made on.
pub const CHAIN_BASE_CHANGED: u8 = 13;
