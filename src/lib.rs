#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod amend;
pub mod check;
pub mod compare;
pub mod convert;
pub mod create;
pub mod explain;
pub mod info;
pub mod map;
pub mod measure;
pub mod probe;
mod refcount_layout;
mod zeros;

pub use block_io as io;
pub use chain;
pub use cluster_map;
pub use cow_engine as engine;
pub use qcow2_format as format;
pub use refcount;
