#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

extern crate alloc;

mod base_pin;
mod bitmap;
mod compressed;
mod error;
mod extension;
mod feature;
mod geometry;
mod header;
mod l1;
mod l2;
mod luks;
mod refcount_block;
mod refcount_table;
mod snapshot;
mod table;
mod unit;

pub mod limit;

pub use base_pin::{BasePin, PinnedFormat, RawBasePin};
pub use bitmap::{
    BitmapCluster, BitmapDirectoryEntry, BitmapFlags, BitmapTableEntry, BitmapsExtension,
    RawBitmapDirectoryEntry, RawBitmapsExtension, decode_bitmap_directory,
};
pub use compressed::CompressedDescriptor;
pub use error::{Error, Field, Found, Structure};
pub use extension::{Extension, RawExtensionHead};
pub use feature::{
    AutoclearFeatures, CompatibleFeatures, FEATURE_ROWS, FeatureKind, FeatureName,
    FeatureNameTable, Features, IncompatibleFeatures, RawFeatureRow,
};
pub use geometry::{ClusterBits, Geometry, L2Layout, RefcountOrder};
pub use header::{
    Area, CompressionType, CryptMethod, FieldUpdate, Header, HeaderBuilder, HeaderSwitch, MAGIC,
    RawHeaderV2, RawHeaderV3Tail, SwitchStage, TablePointer, Version,
};
pub use l1::L1Entry;
pub use l2::{L2Bitmap, L2Entry, RawL2Entry, RawL2EntryExtended};
pub use luks::{LuksPointer, RawLuksPointer};
pub use refcount_block::{RefcountBlock, RefcountOverflow};
pub use refcount_table::RefcountTableEntry;
pub use snapshot::{RawSnapshotHead, Snapshot, SnapshotState, SnapshotTable, SnapshotTableDecode};
pub use table::{encode_table, table_words, table_words_mut};
pub use unit::{GuestOffset, HostCluster, HostOffset};
