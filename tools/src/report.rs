//! How the programs say things: amounts, JSON, progress.

pub mod bytes;
pub mod json;
pub mod progress;
pub mod snapshots;
