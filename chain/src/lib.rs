#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chain;
mod data_file;
mod error;
mod format;
mod index;
mod layer;
mod lower;
mod name;
mod open;
mod options;
mod policy;
mod raw;
mod resize;
mod status;
mod walk;

pub use chain::Chain;
pub use error::{Error, Missing, Result};
pub use format::{Format, UnknownFormat};
pub use layer::Layer;
pub use name::resolve as resolve_name;
pub use options::{CHAIN_INDEX_BYTES_DEFAULT, OpenOptions, Repair};
pub use policy::{DEPTH_MAX_DEFAULT, Policy};
pub use status::Status;
