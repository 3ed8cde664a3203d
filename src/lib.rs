#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod amend;
pub mod audit;
pub mod check;
pub mod compare;
pub mod convert;
pub mod create;
pub mod explain;
#[cfg(feature = "hash")]
pub mod hash;
pub mod info;
pub mod map;
pub mod measure;
pub mod probe;
mod refcount_layout;
pub mod restore;
pub mod verify;
pub mod view;
mod zeros;

pub use block_io as io;
pub use chain;
pub use cluster_map;
pub use cow_engine as engine;
pub use qcow2_format as format;
pub use refcount;
