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
mod mapping;
mod run;
mod subcluster;

pub use change::{EntryChange, ZeroMode, zeroed_mapping};
pub use cluster_type::ClusterType;
pub use decision::{ClusterWrite, CowExtent, CowSource, NewClusterReason, WriteDecision};
pub use dialect::Dialect;
pub use error::{Error, Fault};
pub use mapping::Mapping;
pub use run::{Run, RunKind, Runs};
pub use subcluster::{SubclusterRun, SubclusterType, Subclusters, written_bitmap, zeroed_bitmap};
