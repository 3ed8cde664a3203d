//! Chains beside the real tools: reading, copy-on-write, policy, locks, block status, depth.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod cow;
mod deep;
mod images;
mod locks;
mod names;
mod operation;
mod policy;
mod reading;
mod status;
mod threads;
