//! qcow2 images and external snapshot chains: one page of API over the crates of the house, and
//! the operations on whole images that run in parallel over them.
#![forbid(unsafe_code)]

pub mod compare;
pub mod convert;
pub mod create;
pub mod info;
pub mod map;
pub mod probe;
mod zeros;

pub use block_io as io;
pub use chain;
pub use cluster_map;
pub use cow_engine as engine;
pub use qcow2_format as format;
pub use refcount;
