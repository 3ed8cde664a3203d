//! Who owns which part of the disk, in cells that fit on a page.

use chain::{Chain, Status};

use super::ViewError;
use crate::map::map;

/// What one layer owns of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The layer, 0 for the top.
    pub depth: usize,
    /// Whether it only says that zeros are there.
    pub zero: bool,
    /// How many bytes.
    pub bytes: u64,
}

/// A part of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Who owns it, nearest layer first, data before zeros. What is left over belongs to nobody and
    /// reads as zeros.
    pub shares: Vec<Share>,
}

/// Who owns which part of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestMap {
    /// Bytes of each cell, a power of two, at least 512; the last one may be shorter.
    pub cell_bytes: u64,
    /// The cells, in the order of the disk.
    pub cells: Vec<Cell>,
    /// Bytes that read as zeros, whoever says so, or nobody.
    pub zero: u64,
    /// Bytes that no layer owns.
    pub unowned: u64,
}

/// Unit of the virtual disk size.
const SECTOR_BYTES: u64 = 512;

impl GuestMap {
    /// Walks over the whole disk once.
    pub(super) fn of(chain: &Chain, cells: u64) -> Result<Self, ViewError> {
        let size = chain.virtual_size();
        let cell_bytes = size.div_ceil(cells.max(1)).next_power_of_two().max(SECTOR_BYTES);
        let count = usize::try_from(size.div_ceil(cell_bytes)).unwrap_or(usize::MAX);
        let cells = vec![Cell::default(); count];
        let mut guest = Self { cell_bytes, cells, zero: 0, unowned: 0 };
        for extent in map(chain, 0..size) {
            let extent = extent?;
            guest.add(extent.start, &extent.status);
        }
        for cell in &mut guest.cells {
            cell.shares.sort_unstable_by_key(|share| (share.depth, share.zero));
        }
        Ok(guest)
    }

    fn add(&mut self, start: u64, status: &Status) {
        self.zero += if status.zero { status.len } else { 0 };
        if !status.present {
            self.unowned += status.len;
            return;
        }
        let end = start.saturating_add(status.len);
        let mut at = start;
        while at < end {
            let index = at / self.cell_bytes;
            let bytes = end.min((index + 1).saturating_mul(self.cell_bytes)) - at;
            if let Some(cell) = self.cells.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
                cell.add(Share { depth: status.depth, zero: status.zero, bytes });
            }
            at += bytes;
        }
    }

    /// Guest bytes that a layer shows as data, and as zeros.
    #[must_use]
    pub fn shown_by(&self, depth: usize) -> (u64, u64) {
        let shares = self.cells.iter().flat_map(|cell| &cell.shares);
        let shares = shares.filter(|share| share.depth == depth);
        shares.fold((0, 0), |(data, zero), share| match share.zero {
            true => (data, zero + share.bytes),
            false => (data + share.bytes, zero),
        })
    }
}

impl Cell {
    fn add(&mut self, new: Share) {
        let known = |old: &&mut Share| (old.depth, old.zero) == (new.depth, new.zero);
        match self.shares.iter_mut().find(known) {
            Some(old) => old.bytes += new.bytes,
            None => self.shares.push(new),
        }
    }
}
