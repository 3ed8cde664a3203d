//! Deep queues through Linux's io_uring: many requests of one thread under way at once.
//!
//! - [`Queue`]: requests with buffers that the queue owns while they are under way. For callers
//!   with an I/O loop of their own.
//! - [`UringStorage`]: a [`Storage`](crate::Storage) that cuts large requests into pieces which
//!   are under way at once, and takes lists of requests.
//!
//! Hosts may lack io_uring or forbid it: containers often do. Making either of the two then fails
//! with [`Error::NoRing`](crate::Error::NoRing); nothing else depends on it.
//!
//! # Who owns a buffer
//!
//! The kernel writes into the buffer of a read until it says that the read is over, whoever has
//! lost interest meanwhile. A [`Buffer`] that is handed to a [`Queue`] therefore belongs to it
//! until the completion gives it back; the same goes for the file, which stays open. Cancelling a
//! request only asks for an early end. A queue that is dropped, be it because its thread panics,
//! asks for the end of all its requests and waits for it; should the host fail even that, buffers
//! and files are leaked, not freed.

mod batch;
mod buffer;
mod pool;
mod queue;
mod request;
mod ring;
mod storage;
mod target;

pub use batch::{ReadRequest, WriteRequest};
pub use buffer::Buffer;
pub use queue::{Completion, Queue, Ticket};
pub use storage::{UringOptions, UringStorage};
pub use target::Target;

#[cfg(test)]
mod tests;
