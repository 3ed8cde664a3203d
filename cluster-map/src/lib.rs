#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(test)]
extern crate std;

mod change;
mod cluster_type;
mod decision;
mod dialect;
mod error;
mod run;
mod subcluster;

pub use change::{EntryChange, ZeroMode, zeroed_entry};
pub use cluster_type::ClusterType;
pub use decision::{CowSource, NewClusterReason, WriteDecision};
pub use dialect::Dialect;
pub use error::{Error, Fault};
pub use run::{Run, RunKind, Runs};
pub use subcluster::{SubclusterRun, SubclusterType, Subclusters, written_bitmap, zeroed_bitmap};
