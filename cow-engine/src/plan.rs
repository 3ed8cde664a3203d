//! Plans: what a read or a write is going to do, as values that can be printed, tested, and
//! carried out by somebody else's I/O loop.

mod read;
mod write;

pub use read::ReadPlan;
pub use write::{AllocateRun, CowRange, InPlaceRun, NewCluster, WritePlan, WriteRun};
