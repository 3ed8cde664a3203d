#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

#[cfg(test)]
extern crate std;

mod compressed;
mod error;
mod geometry;
mod l1;
mod l2;
mod refcount_block;
mod refcount_table;
mod unit;

pub mod limit;

pub use compressed::CompressedDescriptor;
pub use error::{Error, Field, Found, Structure};
pub use geometry::{ClusterBits, Geometry, L2Layout, RefcountOrder};
pub use l1::L1Entry;
pub use l2::{L2Bitmap, L2Entry, RawL2Entry, RawL2EntryExtended};
pub use refcount_block::{RefcountBlock, RefcountOverflow};
pub use refcount_table::RefcountTableEntry;
pub use unit::{GuestOffset, HostCluster, HostOffset};
