//! Difference: where two disks show other bytes, without reading what cannot differ.
//!
//! Ranges that both answer from the same layer are the same, and so are ranges that are known to be
//! zeros in both; the rest is read and compared.

use core::ops::Range;
use std::sync::{Mutex, PoisonError};

use block_io::{FileId, Storage};

use crate::chain::Chain;
use crate::error::Result;
use crate::format::Format;
use crate::layer::Layer;
use crate::operation::{Action, Crew, Piece, Watch};
use crate::status::Status;

/// Unit in which differences are told, in bytes.
const BLOCK_BYTES: usize = 512;
/// Longest range asked about at once, in bytes.
const STATUS_BYTES_MAX: u64 = 1 << 40;

/// Two disks that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'c> {
    old: &'c Chain,
    new: &'c Chain,
}

/// How two disks may differ somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// They show the same.
    None,
    /// The old one shows zeros, the new one perhaps data.
    OldIsZero,
    /// Nobody knows before the bytes are compared.
    Compare,
}

/// Which layers answer, by identity: the same layer says the same, whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Identities(Vec<Option<(FileId, Format)>>);

impl Identities {
    /// Of all layers of a chain, top first.
    pub(crate) fn of(chain: &Chain) -> Result<Self> {
        let identity = |layer: &Layer| {
            let id = layer.storage().identity().map_err(|source| layer.storage_error(source))?;
            Ok(id.map(|id| (id, layer.format())))
        };
        chain.layers().map(identity).collect::<Result<_>>().map(Self)
    }

    fn get(&self, status: &Status) -> Option<(FileId, Format)> {
        self.0.get(status.depth).copied().flatten().filter(|_| status.present)
    }
}

/// What a disk said last, and where that ends. The other disk may cut it into many parts, and walking
/// over the same tables for each of them would take forever.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    end: u64,
    status: Option<Status>,
}

impl Known {
    /// What is known about the beginning of a range of a chain, at least one byte; zeros behind the end of
    /// the chain, or without one. Ranges come in guest order, and all end at the same place.
    pub(crate) fn look(&mut self, chain: Option<&Chain>, range: Range<u64>) -> Result<Status> {
        let at = range.start;
        let said = match self.status {
            Some(status) if at < self.end => status,
            _ => {
                let len = (range.end - at).min(STATUS_BYTES_MAX);
                let said = status_or_end(chain, at, len)?;
                self.end = at + said.len.clamp(1, len);
                said
            }
        };
        self.status = Some(said);
        Ok(Status { len: self.end - at, ..said })
    }
}

fn status_or_end(chain: Option<&Chain>, at: u64, len: u64) -> Result<Status> {
    match chain {
        Some(chain) if at < chain.virtual_size() => {
            chain.status_at(at, len.min(chain.virtual_size() - at))
        }
        _ => Ok(Status::absent(len, 0)),
    }
}

/// Fills a buffer with what a chain shows; zeros behind its end, or without a chain.
pub(crate) fn read_or_end(chain: Option<&Chain>, at: u64, buf: &mut [u8]) -> Result<()> {
    let inside = chain.map_or(0, |chain| chain.virtual_size().saturating_sub(at));
    let (data, behind) = buf.split_at_mut(inside.min(buf.len() as u64) as usize);
    behind.fill(0);
    match chain {
        Some(chain) if !data.is_empty() => chain.read_at(at, data),
        _ => Ok(()),
    }
}

/// What two statuses of the same range say about its bytes.
pub(crate) fn suspicion(
    old: (&Status, &Identities),
    new: (&Status, Option<&Identities>),
) -> Suspicion {
    let by_same_layer = match (old.1.get(old.0), new.1.and_then(|ids| ids.get(new.0))) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    };
    match (old.0.zero, new.0.zero) {
        _ if by_same_layer => Suspicion::None,
        (true, true) => Suspicion::None,
        (true, false) => Suspicion::OldIsZero,
        (false, _) => Suspicion::Compare,
    }
}

/// The blocks that differ, neighbours in one piece, in bytes from the start of the buffers, which lie
/// at `offset` on the disk: blocks begin at multiples of `block` there.
pub(crate) fn differing(offset: u64, old: &[u8], new: &[u8], block: usize) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let (mut at, all) = (0, old.len().min(new.len()));
    while at < all {
        let inside = (offset + at as u64) % block as u64;
        let end = all.min(at + block - inside as usize); // less than a block
        if old[at..end] != new[at..end] {
            match parts.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => parts.push(at..end),
            }
        }
        at = end;
    }
    parts
}

impl<'c> Difference<'c> {
    /// Between what `old` and `new` show. The shorter one counts as zeros behind its end.
    #[must_use]
    pub fn between(old: &'c Chain, new: &'c Chain) -> Self {
        Self { old, new }
    }

    /// The ranges that may differ as far as tables tell, in guest order: no data is read.
    ///
    /// # Errors
    /// A layer is damaged or cannot be read.
    pub fn candidates(&self) -> Result<Vec<Range<u64>>> {
        self.pieces()?.map(|piece| piece.map(|p| p.offset..p.offset + p.len)).try_fold(
            Vec::new(),
            |mut ranges, range| {
                push(&mut ranges, range?);
                Ok(ranges)
            },
        )
    }

    /// The ranges whose bytes differ, to the sector of 512 bytes, in guest order.
    ///
    /// # Errors
    /// A layer is damaged or cannot be read, or [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn ranges(&self, watch: Watch<'_>) -> Result<Vec<Range<u64>>> {
        let found = Mutex::new(Vec::new());
        let buffers = || Ok((Vec::new(), Vec::new()));
        Crew::new(watch, 1).run(self.pieces()?, buffers, |(old, new), piece| {
            old.resize(piece.len as usize, 0); // at most one piece of the crew
            new.resize(piece.len as usize, 0);
            read_or_end(Some(self.old), piece.offset, old)?;
            read_or_end(Some(self.new), piece.offset, new)?;
            let parts = differing(piece.offset, old, new, BLOCK_BYTES);
            let at = |part: Range<usize>| {
                piece.offset + part.start as u64..piece.offset + part.end as u64
            };
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(parts.into_iter().map(at));
            Ok(())
        })?;
        let mut found: Vec<Range<u64>> = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|range| range.start);
        let mut ranges = Vec::with_capacity(found.len());
        found.into_iter().for_each(|range| push(&mut ranges, range));
        Ok(ranges)
    }

    /// The pieces that have to be read.
    pub(crate) fn pieces(&self) -> Result<impl Iterator<Item = Result<Piece>> + use<'c>> {
        let (old, new) = (self.old, self.new);
        let ids = (Identities::of(old)?, Identities::of(new)?);
        let (mut at, end) = (0, old.virtual_size().max(new.virtual_size()));
        let mut known = (Known::default(), Known::default());
        Ok(core::iter::from_fn(move || {
            while at < end {
                let (offset, step) = (at, look((old, new), &ids, &mut known, at..end));
                match step {
                    Err(error) => {
                        at = end; // no more after an error
                        return Some(Err(error));
                    }
                    Ok((len, Suspicion::None, _)) => at += len,
                    Ok((len, _, depth)) => {
                        at += len;
                        return Some(Ok(Piece { offset, len, action: Action::Data(depth) }));
                    }
                }
            }
            None
        }))
    }
}

/// How far what is known reaches, what that is, and which layer of the new disk answers.
fn look(
    (old, new): (&Chain, &Chain),
    ids: &(Identities, Identities),
    known: &mut (Known, Known),
    range: Range<u64>,
) -> Result<(u64, Suspicion, usize)> {
    let old = known.0.look(Some(old), range.clone())?;
    let new = known.1.look(Some(new), range)?;
    let len = old.len.min(new.len);
    Ok((len, suspicion((&old, &ids.0), (&new, Some(&ids.1))), new.depth))
}

/// Adds a range behind those that are there, as one piece with the last if they touch.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_differ_are_found_and_joined() {
        let (old, mut new) = (vec![0; 2100], vec![0; 2100]);
        assert_eq!(differing(0, &old, &new, 512), []);
        (new[511], new[512], new[2099]) = (1, 1, 1);
        assert_eq!(differing(0, &old, &new, 512), [0..1024, 2048..2100]);
        // Blocks begin at 12, 524, 1036, 1548 and 2060 of the buffers.
        assert_eq!(differing(500, &old, &new, 512), [12..524, 2060..2100]);
    }
}
