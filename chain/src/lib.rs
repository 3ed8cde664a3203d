#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chain;
mod data_file;
mod error;
mod format;
mod layer;
mod lower;
mod name;
mod open;
mod options;
mod pin;
mod policy;
mod raw;
mod resize;
mod status;

pub use chain::Chain;
pub use error::{Error, Missing, Result};
pub use format::{Format, UnknownFormat};
pub use layer::Layer;
pub use name::resolve as resolve_name;
pub use options::{OpenOptions, Repair};
pub use pin::{BaseFinding, BaseVerdict, pin_of};
pub use policy::{DEPTH_MAX_DEFAULT, Policy};
pub use status::Status;
