//! `Queue`: requests of one thread, many under way at once, with buffers the queue owns meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::buffer::Buffer;
use super::request::Request;
use super::ring::{Name, Ring};
use super::target::Target;
use crate::{Operation, Result};

/// A queue of requests that are under way at once.
///
/// Making a request never blocks and never fails: whatever happens to it, its [`Completion`] says
/// so and gives the buffers back. Requests go to the kernel with the next [`submit`](Queue::submit),
/// [`poll`](Queue::poll) or [`wait`](Queue::wait), at most `depth` at once; others wait here. Their
/// order means nothing: whoever needs one after the other makes the second when the first is
/// complete. Requests that the host serves in part, or interrupts, are continued, so reads are
/// short only where the file ends and writes never.
///
/// Until a write to a direct file is complete, let nobody else write a part of its blocks: whoever
/// does writes the whole block back, as it was before.
///
/// A request holds its file open and owns its buffers until it is complete; see
/// [the module](super) for what happens when somebody loses interest. Dropping a queue cancels what
/// is under way and waits for it: reads of a pipe end at once, disk I/O when the disk is done.
///
/// A queue may move between threads between calls. Let a thread live as long as the requests that it
/// submitted, though: the kernel may fail them (`ECANCELED`) once it has ended.
///
/// ```no_run
/// use std::sync::Arc;
/// use block_io::{Alignment, OpenOptions, uring::{Buffer, Queue}};
///
/// let file = Arc::new(OpenOptions::new().open("disk.raw")?);
/// let mut queue = Queue::new(64)?;
/// for number in 0..64 {
///     queue.read(number, &file, number * 4096, Buffer::zeroed(Alignment::NONE, 4096));
/// }
/// while let Some(completion) = queue.wait()? {
///     println!("request {}: {} bytes", completion.token, completion.result?);
/// }
/// # Ok::<(), block_io::Error>(())
/// ```
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
}

/// The name of a request in its queue. A copyable number: dropping it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(Name);

/// A request that is over.
#[derive(Debug)]
#[must_use = "it says whether the request succeeded, and holds its buffers"]
pub struct Completion {
    /// Which request, as its queue named it.
    pub ticket: Ticket,
    /// Which request, as its maker named it.
    pub token: u64,
    /// How many bytes were read or written; 0 for a sync.
    ///
    /// A cancelled request says `ECANCELED`, unless it was complete before.
    pub result: Result<usize>,
    /// The buffers, in the order they were given. After a failed read their bytes are unspecified.
    pub buffers: Vec<Buffer>,
}

impl Completion {
    /// The only buffer of a request that has one.
    #[must_use]
    pub fn into_buffer(mut self) -> Option<Buffer> {
        if self.buffers.len() > 1 { None } else { self.buffers.pop() }
    }
}

impl Queue {
    /// A queue of which up to `depth` requests (1 to 4096) are with the kernel at once.
    ///
    /// # Errors
    /// [`Error::NoRing`](crate::Error::NoRing) when the host lacks io_uring or what is needed of it,
    /// or forbids it; [`Error::Io`](crate::Error::Io) with `EINVAL` for any other depth.
    pub fn new(depth: u32) -> Result<Self> {
        Ok(Self { ring: Ring::new(depth)? })
    }

    /// Reads from byte `offset` of `file` into `buffer`. Returns at once.
    pub fn read<T: Target>(
        &mut self,
        token: u64,
        file: &Arc<T>,
        offset: u64,
        buffer: Buffer,
    ) -> Ticket {
        self.read_vectored(token, file, offset, vec![buffer])
    }

    /// Reads from byte `offset` of `file` into several buffers in order. Returns at once.
    pub fn read_vectored<T: Target>(
        &mut self,
        token: u64,
        file: &Arc<T>,
        offset: u64,
        buffers: Vec<Buffer>,
    ) -> Ticket {
        self.add(token, Operation::Read, file, offset, buffers)
    }

    /// Writes `buffer` at byte `offset` of `file`. Returns at once.
    pub fn write<T: Target>(
        &mut self,
        token: u64,
        file: &Arc<T>,
        offset: u64,
        buffer: Buffer,
    ) -> Ticket {
        self.write_vectored(token, file, offset, vec![buffer])
    }

    /// Writes several buffers in order at byte `offset` of `file`. Returns at once.
    pub fn write_vectored<T: Target>(
        &mut self,
        token: u64,
        file: &Arc<T>,
        offset: u64,
        buffers: Vec<Buffer>,
    ) -> Ticket {
        self.add(token, Operation::Write, file, offset, buffers)
    }

    /// Makes durable what was complete before this call (`fdatasync`). Returns at once.
    pub fn sync<T: Target>(&mut self, token: u64, file: &Arc<T>) -> Ticket {
        self.add(token, Operation::Sync, file, 0, Vec::new())
    }

    fn add<T: Target>(
        &mut self,
        token: u64,
        operation: Operation,
        file: &Arc<T>,
        offset: u64,
        buffers: Vec<Buffer>,
    ) -> Ticket {
        let file: Arc<dyn Target> = Arc::clone(file) as Arc<dyn Target>;
        let request = Request::owned(token, operation, file, offset, buffers);
        Ticket(self.ring.add(request.checked()))
    }

    /// Asks for an early end of a request; its completion comes all the same. Nothing happens to
    /// one that is complete.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.ring.cancel(ticket.0);
    }

    /// Hands requests to the kernel without waiting for anything.
    ///
    /// # Errors
    /// As for [`wait`](Queue::wait).
    pub fn submit(&mut self) -> Result<()> {
        self.ring.turn(false)
    }

    /// A request that is over, if there is one. Does not wait.
    ///
    /// # Errors
    /// As for [`wait`](Queue::wait).
    pub fn poll(&mut self) -> Result<Option<Completion>> {
        if let Some(completion) = self.fetch() {
            return Ok(Some(completion));
        }
        self.ring.turn(false)?;
        Ok(self.fetch())
    }

    /// Waits for a request that is over; `None` when there are no requests.
    ///
    /// # Errors
    /// The host refused to go on with the ring. Requests may still be under way; drop the queue.
    pub fn wait(&mut self) -> Result<Option<Completion>> {
        loop {
            if let Some(completion) = self.fetch() {
                return Ok(Some(completion));
            }
            if self.ring.len() == 0 {
                return Ok(None);
            }
            self.ring.turn(true)?;
        }
    }

    fn fetch(&mut self) -> Option<Completion> {
        let (name, request) = self.ring.fetch()?;
        let token = request.token;
        let (outcome, buffers) = request.into_parts();
        Some(Completion {
            ticket: Ticket(name),
            token,
            // A slice is never longer than an address can tell.
            result: outcome.map(|count| count as usize),
            buffers,
        })
    }

    /// Number of requests whose completion was not fetched yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there are no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.len() == 0
    }

    /// How many more requests would go to the kernel at once.
    #[must_use]
    pub fn room(&self) -> usize {
        self.ring.room()
    }
}

impl AsFd for Queue {
    /// The ring, which can be polled: readable when completions have arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
