//! Several chains, one behind the other, seen as one disk.

use chain::{Chain, Error, Status};

/// The sources of a copy.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// Each chain with the offset of its first byte.
    parts: Vec<(u64, &'a Chain)>,
    size: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(chains: &'a [Chain]) -> Self {
        let mut size = 0u64;
        let part = |chain: &'a Chain| {
            let start = size;
            size = size.saturating_add(chain.virtual_size());
            (start, chain)
        };
        let parts = chains.iter().map(part).collect();
        Self { parts, size }
    }

    /// Bytes of all of them.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The chain that holds byte `at`, where that is in it, and how much it has from there.
    fn part(&self, at: u64) -> Option<(&'a Chain, u64, u64)> {
        let index = self.parts.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        let (start, chain) = self.parts[index];
        let inside = at - start;
        let left = chain.virtual_size().checked_sub(inside).filter(|left| *left > 0)?;
        Some((chain, inside, left))
    }

    /// A run of the disk; `top_only` asks what the top layers hold themselves.
    pub(super) fn status_at(&self, at: u64, len: u64, top_only: bool) -> Result<Status, Error> {
        let Some((chain, inside, left)) = self.part(at) else { return Ok(nothing(len)) };
        let len = len.min(left);
        let status = match top_only {
            true => chain.top_status_at(inside, len),
            false => chain.status_at(inside, len),
        }?;
        Ok(Status { len: status.len.clamp(1, len.max(1)), ..status })
    }

    /// Reads, across the borders between the chains.
    pub(super) fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < buf.len() {
            let Some((chain, inside, left)) = self.part(at + done as u64) else {
                buf[done..].fill(0);
                break;
            };
            let len = (buf.len() - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            chain.read_at(inside, &mut buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }
}

/// What lies behind the last byte.
fn nothing(len: u64) -> Status {
    Status {
        len,
        depth: 0,
        present: false,
        zero: true,
        data: false,
        compressed: false,
        host_offset: None,
    }
}
