//! The guest: random requests, and what the disk must hold. It never has two requests for the same
//! bytes under way, as file systems do not, but often several for the same cluster.

use block_io::uring::Buffer;
use block_io::{Alignment, Storage as _};
use cow_engine::{Image, ZeroMode};

use super::Failure;
use super::disk::{CLUSTER, Disk};

const SECTOR: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Zero,
    Discard,
    Flush,
}

/// A request of the guest.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// What is written, or filled; empty for other kinds.
    pub(crate) buffer: Buffer,
}

impl Request {
    pub(crate) fn take_buffer(&mut self) -> Buffer {
        core::mem::replace(&mut self.buffer, Buffer::zeroed(Alignment::NONE, 0))
    }
}

pub(crate) struct Guest {
    /// Every byte of the disk.
    model: Vec<u8>,
    alignment: Alignment,
    random: u64,
    /// Ranges of requests under way.
    under_way: Vec<(u64, u64)>,
}

impl Guest {
    pub(crate) fn new(disk: &Disk, seed: u64) -> Self {
        let alignment = disk.file().alignment();
        let random = seed.wrapping_mul(2).wrapping_add(1);
        Self { model: disk.content().to_vec(), alignment, random, under_way: Vec::new() }
    }

    /// Less than `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }

    /// A request that touches no byte of those under way; `None` if that is hard to find.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        let (kind, unit) = match self.below(100) {
            0..=44 => (Kind::Read, SECTOR),
            45..=94 => (Kind::Write, SECTOR),
            95..=96 => (Kind::Zero, SECTOR),
            97..=98 => (Kind::Discard, CLUSTER),
            _ => return Some(self.request(Kind::Flush, 0, 0)),
        };
        for _ in 0..10 {
            let len = match self.below(10) {
                _ if unit == CLUSTER => CLUSTER * (1 + self.below(3)),
                0 => SECTOR * (1 + self.below(400)),
                1..=3 => SECTOR * (1 + self.below(16)),
                _ => 4096,
            };
            let offset = self.below((self.model.len() as u64 - len) / unit) * unit;
            let overlaps = |other: &(u64, u64)| offset < other.1 && other.0 < offset + len;
            if !self.under_way.iter().any(overlaps) {
                return Some(self.request(kind, offset, len));
            }
        }
        None
    }

    fn request(&mut self, kind: Kind, offset: u64, len: u64) -> Request {
        let bytes = if matches!(kind, Kind::Read | Kind::Write) { len as usize } else { 0 };
        let mut buffer = Buffer::zeroed(self.alignment, bytes);
        let model = &mut self.model[offset as usize..(offset + len) as usize];
        match kind {
            // Nobody else touches these bytes before the request is complete.
            Kind::Zero | Kind::Discard => model.fill(0),
            Kind::Write => {
                for (number, sector) in buffer.chunks_mut(SECTOR as usize).enumerate() {
                    sector.fill((self.random >> (number % 50)) as u8);
                }
                model.copy_from_slice(&buffer);
            }
            Kind::Read | Kind::Flush => {}
        }
        self.under_way.push((offset, offset + len));
        Request { kind, offset, len, buffer }
    }

    /// Takes the answer to a request, and looks at every byte that was read.
    pub(crate) fn complete(&mut self, request: Request) -> Result<(), Failure> {
        let Request { kind, offset, len, buffer } = request;
        let range = (offset, offset + len);
        let place = self.under_way.iter().position(|other| *other == range);
        self.under_way.swap_remove(place.ok_or("an answer to a request that was never made")?);
        if kind == Kind::Read {
            self.compare(offset, &buffer)?;
        }
        Ok(())
    }

    fn compare(&self, offset: u64, found: &[u8]) -> Result<(), Failure> {
        let expected = &self.model[offset as usize..][..found.len()];
        if found == expected {
            return Ok(());
        }
        let wrong = found.iter().zip(expected).position(|(found, expected)| found != expected);
        Err(format!("wrong byte at {:#x}", offset + wrong.unwrap_or_default() as u64).into())
    }

    /// Compares the whole disk, by calls of the engine.
    pub(crate) fn compare_all(&self, image: &Image) -> Result<(), Failure> {
        let mut buf = vec![0; 1 << 20];
        for start in (0..self.model.len()).step_by(buf.len()) {
            image.read_at(start as u64, &mut buf)?;
            self.compare(start as u64, &buf)?;
        }
        Ok(())
    }
}

/// As many requests of the same kinds as the loop got, by calls of the engine.
pub(crate) fn one_by_one(image: &Image, guest: &mut Guest, requests: u64) -> Result<(), Failure> {
    for _ in 0..requests {
        let Some(mut request) = guest.next_request() else {
            return Err("nothing is under way, and yet in the way".into());
        };
        let (offset, len) = (request.offset, request.len);
        match request.kind {
            Kind::Read => image.read_at(offset, &mut request.buffer)?,
            Kind::Write => image.write_at(offset, &request.buffer)?,
            Kind::Zero => image.write_zeroes_at(offset, len, ZeroMode::Keep)?,
            Kind::Discard => image.discard_at(offset, len)?,
            Kind::Flush => image.flush()?,
        }
        guest.complete(request)?;
    }
    Ok(())
}
