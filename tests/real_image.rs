//! A real file system on a chain: ext4 in the base, files changed through our writes into the
//! overlays, `e2fsck` and the real tools as judges of what the top shows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod real_image {
    mod chain;
    mod file_system;
    mod scenario;
    mod transfer;
}
