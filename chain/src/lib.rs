#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod chain;
mod commit;
mod data_file;
mod delta;
mod difference;
mod error;
mod format;
mod handler;
mod header_change;
mod index;
mod layer;
mod lower;
mod name;
mod open;
mod operation;
mod options;
mod overlay;
mod pin;
mod policy;
mod raw;
mod rebase;
mod resize;
mod status;
mod stream;
mod walk;

pub use chain::Chain;
pub use commit::Commit;
pub use delta::Delta;
pub use difference::Difference;
pub use error::{Error, Missing, Result};
pub use format::{Format, UnknownFormat};
pub use handler::{Handled, HandlerError, NameHandler};
pub use layer::Layer;
pub use name::{of_file as name_of_file, resolve as resolve_name};
pub use operation::{LayerRef, Moved, Plan, Progress, Refusal, Step, Watch};
pub use options::{CHAIN_INDEX_BYTES_DEFAULT, OpenOptions, Repair};
pub use overlay::Overlays;
pub use pin::{BaseFinding, BaseVerdict, pin_of};
pub use policy::{DEPTH_MAX_DEFAULT, Policy};
pub use rebase::Rebase;
pub use status::Status;
pub use stream::Stream;
