#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// The models use the crate as its users do, and look inside as well.
#[cfg(all(test, shuttle))]
extern crate self as cow_engine;
#[cfg(all(test, shuttle))]
#[path = "../tests/shuttle/models.rs"]
mod models;
#[cfg(all(test, loom))]
#[path = "../tests/loom/models.rs"]
mod models;

mod allocator;
mod area_runs;
mod backing;
mod backing_change;
mod cache_usage;
mod claims;
mod compression;
mod compressor;
mod copied_flags;
mod create;
mod data_file;
mod discard;
mod empty;
mod error;
mod expand_zeroes;
mod explain;
mod flush;
mod image;
mod in_flight;
mod l1_table;
mod marks;
mod metadata_map;
mod open;
mod options;
mod pending_read;
mod pins;
mod plan;
mod poison;
mod preallocation;
mod read;
mod resize;
mod scratch;
mod slice_cache;
mod survey;
mod sync;
mod translate;
mod vm_state;
mod write;
mod zero;

pub use allocator::Unpublished;
pub use backing::{Backing, BelowError};
pub use cache_usage::CacheUsage;
pub use compressor::Compressor;
pub use create::{CreatePlan, PlannedArea, create, create_with_data_file};
pub use error::{Area, Class, DecompressFault, Error, Feature, Purpose, Result};
pub use explain::{EntryBits, Explanation};
pub use flush::{FlushPlan, FlushStage, MetadataKind, MetadataWrite};
pub use image::Image;
pub use open::{check_supported, read_header, read_header_for_reading};
pub use options::{
    BackingReference, CreateOptions, DataFileReference, L2_CACHE_BYTES_DEFAULT, OpenOptions,
    REFCOUNT_CACHE_BYTES_DEFAULT,
};
pub use pending_read::PendingRead;
pub use plan::{AllocateRun, CowRange, InPlaceRun, NewCluster, ReadPlan, WritePlan, WriteRun};
pub use preallocation::{Preallocation, UnknownPreallocation};
pub use resize::{ResizeOptions, ResizePlan, ResizeRefusal, ResizeStep};
pub use survey::Survey;
pub use write::PendingWrite;

pub use qcow2_format::{BasePin, HeaderSwitch, PinnedFormat, SwitchStage};

pub use cluster_map::{
    ClusterType, CowSource, Mapping, NewClusterReason, Run, RunKind, WriteDecision, ZeroMode,
};
