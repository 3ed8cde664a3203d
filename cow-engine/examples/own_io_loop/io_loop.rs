//! The loop: guest requests become host requests as the engine's plans say, and are complete when
//! the last of them is over and, for writes, the plan is published.
//!
//! - Read: `begin_read`; data runs go to the lanes, straight into a piece of the guest's buffer; the
//!   engine fills the others (zeros, compressed clusters, the layer below).
//! - Write: `try_begin_write`; each run is one vectored write with the old bytes around it, which
//!   `read_cow` fetches; `publish` when all of them are over. A write that would have to wait for
//!   another one of the same clusters is put aside.
//! - Zeroing, discard, flush: these may wait for writes of this loop, so another thread calls them.

use core::fmt;
use std::collections::VecDeque;

use block_io::uring::Buffer;
use block_io::{Alignment, Storage as _};
use cow_engine::{
    AllocateRun, CowRange, Image, PendingRead, PendingWrite, RunKind, WritePlan, WriteRun,
};

use super::Failure;
use super::guest::{Kind, Request};
use super::lanes::{Done, Lanes};
use super::waiting_calls::WaitingCalls;

/// What the loop did, for people and tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Requests to the host.
    pub(crate) host: u64,
    /// Those with old bytes before or behind the guest's.
    pub(crate) copies: u64,
    /// Runs that the engine read or wrote itself.
    pub(crate) engine: u64,
    /// Times a write was put aside because another one of the same cluster was under way.
    pub(crate) put_aside: u64,
    /// Most guest requests under way at once.
    pub(crate) deepest: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, copies, engine, put_aside, deepest } = self;
        write!(
            f,
            "{host} requests to the host ({copies} with old bytes around them), {engine} runs left \
             to the engine, writes put aside {put_aside} times, at most {deepest} under way"
        )
    }
}

/// A guest request under way.
struct Active<'i> {
    request: Request,
    plan: Plan<'i>,
    /// The guest's buffer, run by run.
    pieces: Vec<Piece>,
    /// Host requests that are not over.
    outstanding: usize,
    failed: Option<Failure>,
}

/// What must live until the last host request is over.
enum Plan<'i> {
    Read(PendingRead<'i>),
    Write(PendingWrite<'i>),
}

enum Piece {
    Here(Buffer),
    /// With the host, as this one of the buffers of its request.
    Away(usize),
}

pub(crate) struct IoLoop<'i> {
    // Dropped first: it waits for the kernel, so that no write arrives after its plan is given up.
    lanes: Lanes,
    active: Vec<Option<Active<'i>>>,
    image: &'i Image,
    calls: WaitingCalls,
    /// Writes that wait for others of the same clusters.
    aside: VecDeque<Request>,
    done: VecDeque<Request>,
    under_way: usize,
    counts: Counts,
}

impl<'i> IoLoop<'i> {
    pub(crate) fn new(image: &'i Image, lanes: Lanes, calls: WaitingCalls) -> Self {
        let (aside, done) = (VecDeque::new(), VecDeque::new());
        let counts = Counts::default();
        Self { lanes, active: Vec::new(), image, calls, aside, done, under_way: 0, counts }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a guest request over.
    pub(crate) fn begin(&mut self, request: Request) -> Result<(), Failure> {
        self.under_way += 1;
        self.counts.deepest = self.counts.deepest.max(self.under_way);
        match request.kind {
            Kind::Read => self.begin_read(request),
            Kind::Write => self.begin_write(request),
            Kind::Zero | Kind::Discard | Kind::Flush => self.calls.ask(request),
        }
    }

    /// Waits for a guest request that is complete; `None` when there are none under way.
    pub(crate) fn next_done(&mut self) -> Result<Option<Request>, Failure> {
        while self.under_way > 0 {
            if let Some(request) = self.done.pop_front() {
                self.under_way -= 1;
                return Ok(Some(request));
            }
            self.turn()?;
        }
        Ok(None)
    }

    /// Waits for something to be over, and goes on with what it was for.
    fn turn(&mut self) -> Result<(), Failure> {
        if let Some(request) = self.calls.answer()? {
            self.done.push_back(request);
        } else if self.lanes.has_bell() || self.active.iter().any(Option::is_some) {
            // Ended by the bell as well, which has no answer by itself.
            if let Some(done) = self.lanes.wait()? {
                self.host_done(done)?;
            }
        } else {
            // Nothing but a call can bring news.
            self.done.push_back(self.calls.wait()?);
        }
        for _ in 0..self.aside.len() {
            if let Some(request) = self.aside.pop_front() {
                self.begin_write(request)?;
            }
        }
        Ok(())
    }

    fn begin_read(&mut self, mut request: Request) -> Result<(), Failure> {
        let pending = self.image.begin_read(request.offset, request.len)?;
        let mut rest = request.take_buffer();
        let (mut pieces, mut reads) = (Vec::new(), Vec::new());
        for run in pending.plan().runs() {
            let mut piece = cut(&mut rest, run.len);
            match run.kind {
                RunKind::Data { host } if self.lanes.fits(host.get(), &piece) => {
                    reads.push((pieces.len(), host.get(), piece));
                    pieces.push(Piece::Away(0));
                }
                _ => {
                    self.image.read_run(run, &mut piece)?;
                    self.counts.engine += 1;
                    pieces.push(Piece::Here(piece));
                }
            }
        }
        let outstanding = reads.len();
        let plan = Plan::Read(pending);
        let slot = self.add(Active { request, plan, pieces, outstanding, failed: None });
        for (number, host, piece) in reads {
            self.counts.host += 1;
            self.lanes.read(token(slot, number), host, piece);
        }
        self.finish_if_over(slot)
    }

    fn begin_write(&mut self, mut request: Request) -> Result<(), Failure> {
        let Some(pending) = self.image.try_begin_write(request.offset, request.len)? else {
            self.counts.put_aside += 1;
            self.aside.push_back(request);
            return Ok(());
        };
        let (mut pieces, mut writes) = (Vec::new(), Vec::new());
        if self.fits(pending.plan(), &request.buffer) {
            let mut rest = request.take_buffer();
            for run in pending.plan().runs() {
                let (host, buffers, data) = self.with_old_bytes(run, cut(&mut rest, run.len()))?;
                self.counts.copies += u64::from(buffers.len() > 1);
                writes.push((host, buffers));
                pieces.push(Piece::Away(data));
            }
        } else {
            // Off the blocks of a direct file: the storage below the engine bounces what it must.
            self.image.execute(pending.plan(), &request.buffer)?;
            self.counts.engine += 1;
            pieces.push(Piece::Here(request.take_buffer()));
        }
        let outstanding = writes.len();
        let plan = Plan::Write(pending);
        let slot = self.add(Active { request, plan, pieces, outstanding, failed: None });
        for (number, (host, buffers)) in writes.into_iter().enumerate() {
            self.counts.host += 1;
            self.lanes.write(token(slot, number), host, buffers);
        }
        self.finish_if_over(slot)
    }

    /// Whether the lanes take every run. Clusters are aligned, so old bytes fit if the guest's do.
    fn fits(&self, plan: &WritePlan, mut bytes: &[u8]) -> bool {
        plan.runs().iter().all(|run| {
            let (part, rest) = bytes.split_at(run.len() as usize);
            bytes = rest;
            self.lanes.fits(run.host().get(), part)
        })
    }

    /// One run as one write: old bytes before, guest data, old bytes behind. Returns where it goes,
    /// the buffers, and which of them is the guest's.
    fn with_old_bytes(
        &self,
        run: &WriteRun,
        data: Buffer,
    ) -> Result<(u64, Vec<Buffer>, usize), Failure> {
        let WriteRun::Allocate(run) = run else { return Ok((run.host().get(), vec![data], 0)) };
        let head = self.old_bytes(run, run.cow_start())?;
        let tail = self.old_bytes(run, run.cow_end())?;
        let before = head.as_ref().map_or(0, |head| head.len() as u64);
        let data_index = usize::from(head.is_some());
        let buffers = head.into_iter().chain([data]).chain(tail).collect();
        Ok((run.host().get() - before, buffers, data_index))
    }

    fn old_bytes(
        &self,
        run: &AllocateRun,
        range: Option<CowRange>,
    ) -> Result<Option<Buffer>, Failure> {
        let Some(range) = range else { return Ok(None) };
        if !self.image.cow_is_needed(run, &range)? {
            return Ok(None);
        }
        let mut bytes = Buffer::zeroed(self.image.storage().alignment(), range.len as usize);
        self.image.read_cow(&range, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// A host request is over.
    fn host_done(&mut self, done: Done) -> Result<(), Failure> {
        let (slot, number) = ((done.token >> 32) as usize, (done.token & 0xffff_ffff) as usize);
        let active = self.active.get_mut(slot).and_then(Option::as_mut);
        let active = active.ok_or("a completion of a request that is not under way")?;
        active.outstanding -= 1;
        let Some(Piece::Away(data)) = active.pieces.get(number) else {
            return Err("a completion of a piece that is not away".into());
        };
        let mut piece = done.buffers.into_iter().nth(*data).ok_or("a buffer is lost")?;
        match (done.result, &active.plan) {
            // Past the end of the file: the engine knows whether that means zeros.
            (Ok(count), Plan::Read(pending)) if count < piece.len() => {
                let run = &pending.plan().runs()[number];
                active.failed = self.image.read_run(run, &mut piece).err().map(Into::into);
            }
            (Ok(_), _) => {}
            (Err(error), _) => active.failed = Some(error.into()),
        }
        active.pieces[number] = Piece::Here(piece);
        self.finish_if_over(slot)
    }

    /// Completes a guest request whose last host request is over.
    fn finish_if_over(&mut self, slot: usize) -> Result<(), Failure> {
        let is_over = |active: &mut Active<'_>| active.outstanding == 0;
        let Some(mut active) = self.active[slot].take_if(is_over) else { return Ok(()) };
        active.request.buffer = join(active.pieces)?;
        if let Some(failure) = active.failed {
            // Dropping a write gives its clusters back. A real loop tells the guest and goes on.
            return Err(failure);
        }
        if let Plan::Write(pending) = active.plan {
            pending.publish()?;
        }
        self.done.push_back(active.request);
        Ok(())
    }

    fn add(&mut self, active: Active<'i>) -> usize {
        let free = self.active.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.active.push(None);
            self.active.len() - 1
        });
        self.active[slot] = Some(active);
        slot
    }
}

fn token(slot: usize, number: usize) -> u64 {
    (slot as u64) << 32 | number as u64
}

/// Takes the first `len` bytes of `rest` away.
fn cut(rest: &mut Buffer, len: u64) -> Buffer {
    let behind = rest.split_off(len as usize);
    core::mem::replace(rest, behind)
}

/// Puts the guest's buffer together again.
fn join(pieces: Vec<Piece>) -> Result<Buffer, Failure> {
    let mut whole: Option<Buffer> = None;
    for piece in pieces {
        let Piece::Here(piece) = piece else { return Err("a piece is missing".into()) };
        match &mut whole {
            None => whole = Some(piece),
            Some(whole) => whole.join(piece).map_err(|_| "pieces that are not neighbours")?,
        }
    }
    Ok(whole.unwrap_or_else(|| Buffer::zeroed(Alignment::NONE, 0)))
}
