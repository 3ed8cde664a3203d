//! Chains beside the real tools: reading, copy-on-write, policy, locks, block status, depth,
//! sizes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bases;
mod cow;
mod deep;
mod given;
mod images;
mod locks;
mod names;
mod operation;
mod policy;
mod reading;
mod resizing;
mod status;
mod threads;
