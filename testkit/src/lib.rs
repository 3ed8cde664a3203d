#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "everything here runs in tests, where a panic with a helpful text is the answer"
)]

pub mod census;
mod crash;
mod diary;
mod fault;
mod folder;
mod hold;
mod model;
mod pattern;
mod program;
mod qemu;
mod rng;
pub mod stamps;

pub use crash::{
    CrashFile, CrashFiles, CrashFilesLog, CrashLog, CrashPlan, CrashState, CrashStorage, Cut,
    CutState, Epoch, Event, Fate, LostSync, SECTOR_BYTES, Tear,
};
pub use diary::{Allowed, Begun, Diary};
pub use fault::{Arrives, Call, CallSet, Counts, Fault, FaultStorage, fail_each_call};
pub use folder::Folder;
pub use hold::HoldStorage;
pub use model::{Difference, ModelChain, ModelDisk};
pub use pattern::Pattern;
pub use program::{Output, built_program, run};
pub use qemu::{IoSession, Qemu};
pub use rng::{Rng, number_from};
pub use serde_json::Value as Json;
