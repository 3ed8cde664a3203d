//! `Ring`: requests, the kernel's rings, and who owns what between the two.
//!
//! Every request lives in a slot from when it is made until its outcome is fetched. While the
//! kernel knows of it, nothing else touches the slot's memory. At most `depth` requests are in the
//! kernel at once, and at most as many cancellations; the completion ring has room for both, so it
//! never overflows. What is beyond waits here.
#![expect(unsafe_code, reason = "submission entries hold raw addresses")]

use core::mem;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;

use super::request::{Next, Request};
use crate::{Error, Operation, Result};

/// Deepest queue; the kernel takes eight times as much.
pub(super) const DEPTH_MAX: u32 = 4096;

/// Marks completions of cancellations.
const CANCEL: u64 = u64::MAX;

/// What requests are made of.
const OPERATIONS: [u8; 6] = [
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Readv::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::AsyncCancel::CODE,
];

/// The name of a request: its slot, and how often the slot was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    slot: u32,
    generation: u32,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    request: Option<Request>,
}

pub(super) struct Ring {
    ring: IoUring,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Made, not yet in the kernel.
    waiting: VecDeque<Name>,
    /// Over, not yet fetched.
    over: VecDeque<Name>,
    depth: usize,
    /// Requests and cancellations whose completion has not come yet.
    in_kernel: usize,
    cancels: usize,
    /// Completions on their way from the ring to their slots.
    arrived: Vec<(u64, i32)>,
    /// Nothing goes into the kernel any more.
    closing: bool,
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (in_kernel, waiting) = (self.in_kernel, self.waiting.len());
        f.debug_struct("Ring")
            .field("depth", &self.depth)
            .field("in_kernel", &in_kernel)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Rings for `depth` requests in the kernel at once.
    pub(super) fn new(depth: u32) -> Result<Self> {
        let refuse = |source: io::Error| Error::NoRing { source: source.into() };
        if depth == 0 || depth > DEPTH_MAX {
            return Err(Error::host(Operation::Ring, Errno::INVAL.into()));
        }
        // Room for a cancellation of each request, on both rings.
        let ring = IoUring::builder().build(depth * 2).map_err(refuse)?;
        if !ring.params().is_feature_nodrop() || !ring.params().is_feature_submit_stable() {
            return Err(refuse(Errno::OPNOTSUPP.into()));
        }
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(refuse)?;
        if !OPERATIONS.into_iter().all(|code| probe.is_supported(code)) {
            return Err(refuse(Errno::OPNOTSUPP.into()));
        }
        Ok(Self {
            ring,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            over: VecDeque::new(),
            depth: depth as usize,
            in_kernel: 0,
            cancels: 0,
            arrived: Vec::new(),
            closing: false,
        })
    }

    /// Adds a request. Never fails: what is wrong with it becomes its outcome.
    pub(super) fn add(&mut self, request: Request) -> Name {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let name = Name { slot, generation: place.generation };
        let is_over = request.outcome.is_some();
        place.request = Some(request);
        if is_over {
            self.over.push_back(name);
        } else {
            self.waiting.push_back(name);
        }
        name
    }

    /// Requests that are not fetched yet.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many more requests would go to the kernel at once.
    pub(super) fn room(&self) -> usize {
        self.depth.saturating_sub(self.in_kernel + self.waiting.len())
    }

    /// A request that is over, and its outcome.
    pub(super) fn fetch(&mut self) -> Option<(Name, Request)> {
        let name = self.over.pop_front()?;
        let slot = &mut self.slots[name.slot as usize];
        let request = slot.request.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(name.slot);
        Some((name, request))
    }

    /// Hands waiting requests to the kernel as far as there is room, and takes completions in.
    /// Waits for at least one if asked to.
    ///
    /// # Errors
    /// The host refused to go on; requests it knows of are still under way.
    pub(super) fn turn(&mut self, wait: bool) -> Result<()> {
        self.fill();
        let wanted = usize::from(wait && self.in_kernel > 0);
        let pending = !self.ring.submission().is_empty();
        if pending || wanted > 0 {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) => {}
                // Interrupted, or out of memory for a moment: what is not submitted stays in the
                // ring, and the caller comes again.
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN | Errno::BUSY) => std::thread::yield_now(),
                    _ => return Err(Error::host(Operation::Ring, error)),
                },
            }
        }
        self.reap();
        Ok(())
    }

    /// Asks for an early end of a request. It is over when its outcome says so.
    pub(super) fn cancel(&mut self, name: Name) {
        let Some(request) = self.request(name) else { return };
        if request.outcome.is_some() || mem::replace(&mut request.cancelled, true) {
            return;
        }
        if !request.in_kernel {
            request.give_up(Errno::CANCELED);
            self.waiting.retain(|waiting| *waiting != name);
            self.over.push_back(name);
            return;
        }
        let entry = opcode::AsyncCancel::new(word(name)).build().user_data(CANCEL);
        // SAFETY: a cancellation refers to no memory.
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            self.cancels += 1;
        }
    }

    /// Waits until the kernel is done with every request it knows of; none goes to it meanwhile.
    /// Never gives up: who calls this cannot go on before.
    pub(super) fn drain(&mut self) {
        self.closing = true;
        while self.in_kernel > 0 {
            if self.turn(true).is_err() {
                // Completions may arrive all the same.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.closing = false;
        for name in mem::take(&mut self.waiting) {
            if let Some(request) = self.request(name) {
                request.give_up(Errno::CANCELED);
                self.over.push_back(name);
            }
        }
    }

    fn request(&mut self, name: Name) -> Option<&mut Request> {
        let slot = self.slots.get_mut(name.slot as usize)?;
        slot.request.as_mut().filter(|_| slot.generation == name.generation)
    }

    /// Moves waiting requests into the submission ring.
    fn fill(&mut self) {
        while !self.closing && self.in_kernel < self.depth {
            let Some(name) = self.waiting.pop_front() else { break };
            let Some(request) = self.request(name) else { continue };
            request.begin();
            let entry = request.entry().user_data(word(name));
            // SAFETY: the entry points at parts, buffers and a descriptor that the request owns,
            // or whose owner waits for its end. It stays in its slot until the completion has
            // arrived: `fetch` takes requests that are over, and `drop` waits, or leaks the slots.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_err() {
                // Cannot be: the ring has room for every request and its cancellation.
                if let Some(request) = self.request(name) {
                    request.end();
                }
                self.waiting.push_front(name);
                break;
            }
            self.in_kernel += 1;
        }
    }

    /// Takes completions in. Requests that are not done go to the front of those that wait.
    fn reap(&mut self) {
        let mut arrived = mem::take(&mut self.arrived);
        arrived.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result())));
        for (word, answer) in arrived.drain(..) {
            if word == CANCEL {
                self.cancels -= 1;
                continue;
            }
            self.in_kernel -= 1;
            let name = Name { slot: word as u32, generation: (word >> 32) as u32 };
            let Some(request) = self.request(name) else { continue };
            request.end();
            match request.settle(answer) {
                Next::Again => self.waiting.push_front(name),
                Next::Over => self.over.push_back(name),
            }
        }
        self.arrived = arrived;
    }
}

/// What the kernel gives back with a completion. There are never so many slots that this would be
/// [`CANCEL`].
fn word(name: Name) -> u64 {
    u64::from(name.generation) << 32 | u64::from(name.slot)
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open as long as it lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl Drop for Ring {
    /// Asks for the end of everything under way and waits for it. Should the host refuse, slots
    /// that the kernel may still use are leaked.
    fn drop(&mut self) {
        self.closing = true;
        let name = |(slot, place): (usize, &Slot)| {
            let in_kernel = place.request.as_ref().is_some_and(|request| request.in_kernel);
            in_kernel.then_some(Name { slot: slot as u32, generation: place.generation })
        };
        let names: Vec<Name> = self.slots.iter().enumerate().filter_map(name).collect();
        for name in names {
            self.cancel(name);
        }
        while self.in_kernel > 0 {
            if self.turn(true).is_err() {
                mem::forget(mem::take(&mut self.slots));
                return;
            }
        }
    }
}
