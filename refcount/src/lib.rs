#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

#[cfg(test)]
extern crate std;

mod census;
mod error;
mod growth;
mod ledger;
mod position;

pub use census::{Census, Mismatch};
pub use error::Error;
pub use growth::TableGrowth;
pub use ledger::{BlockWrite, HostRun, LastBlock, Ledger, Need, Reserve};
pub use position::Position;
