#![doc = include_str!("../README.md")]

mod aligned;
mod alignment;
mod error;
mod ext;
mod extent;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod files_given;
mod forward;
mod identity;
mod lock;
mod memory;
mod range;
mod storage;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

#[cfg(target_os = "linux")]
mod file;

#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub mod uring;

pub use aligned::AlignedBuffer;
pub use alignment::Alignment;
pub use error::{Error, Operation, Result};
pub use ext::StorageExt;
pub use extent::{Extent, ExtentKind};
#[cfg(target_os = "linux")]
pub use file::{Create, FileStorage, HostFiles, Locking, OpenOptions};
#[cfg(target_os = "linux")]
pub use files::Files;
#[cfg(target_os = "linux")]
pub use files_given::GivenFiles;
pub use identity::FileId;
pub use lock::{Lock, Permission, Permissions};
pub use memory::MemoryStorage;
pub use storage::Storage;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
pub use uring::UringStorage;
