//! The end of the file: giving up refcount blocks that count nothing, and what lies behind the
//! last cluster in use.

use qcow2_format::{HostCluster, HostOffset};
use refcount::{HostRun, LastBlock};

use super::{Allocator, Books};
use crate::error::{Area, Error, Purpose, Result};
use crate::metadata_map::MetadataMap;

impl Allocator {
    /// Gives up the empty refcount blocks at the end of the table, and returns the cluster behind
    /// the last one in use. Nothing else may be going on.
    ///
    /// The table stops pointing at a block, durably, before anything else may use its cluster.
    pub(crate) fn drop_unused_blocks(&self, map: &MetadataMap) -> Result<HostCluster> {
        let _write_back = self.write_back();
        let books = &mut *self.lock();
        let mut dropped = Vec::new();
        loop {
            let (empty, end) = self.survey_tail(books)?;
            let (Some(last), Some(first)) = (empty.first(), empty.last()) else {
                // What lies behind the end goes with the end of the file.
                for &first in dropped.iter().filter(|cluster| **cluster < end) {
                    self.punch_hole(Some(HostRun { first, count: 1 }))?;
                }
                return Ok(end);
            };
            let entries = last.table_index.saturating_sub(first.table_index).saturating_add(1);
            self.unhook(map, books, first.table_index, entries)?;
            for block in &empty {
                let elsewhere = books.ledger.forget_block(block);
                let cluster = self.geometry.host_cluster(block.offset);
                map.release(cluster);
                dropped.push(cluster);
                if let Some(first) = elsewhere {
                    self.count_down_in(map, books, HostRun { first, count: 1 })?;
                }
            }
        }
    }

    /// The empty blocks at the end of the table, last one first, and the cluster behind the last
    /// one in use in the range before them.
    fn survey_tail(&self, books: &mut Books) -> Result<(Vec<LastBlock>, HostCluster)> {
        let mut empty = Vec::new();
        let mut below = u64::MAX;
        loop {
            match self.last_block_in(books, below)? {
                Some(block) if block.is_empty && block.table_index > 0 => {
                    below = block.table_index;
                    empty.push(block);
                }
                Some(block) => return Ok((empty, block.end)),
                None => return Err(refcount::Error::HeaderFree.into()),
            }
        }
    }

    fn last_block_in(&self, books: &mut Books, below: u64) -> Result<Option<LastBlock>> {
        loop {
            match books.ledger.last_block(below) {
                Ok(block) => return Ok(block),
                Err(need) => self.satisfy(books, need)?,
            }
        }
    }

    /// Clears neighbouring entries of the refcount table on disk. Those between the first and the
    /// last that are absent already are zeros anyway.
    fn unhook(&self, map: &MetadataMap, books: &Books, first: u64, entries: u64) -> Result<()> {
        let table = books.ledger.table_offset();
        let at = first.checked_mul(8).and_then(|skip| table.checked_add(skip));
        let at: HostOffset = at.ok_or(Error::Plan { reason: "a table entry leaves 64 bits" })?;
        let zeros = vec![0; usize::try_from(entries.saturating_mul(8)).unwrap_or(0)];
        self.poison.guarding(|| {
            map.guard_metadata(Area::RefcountTable, at, zeros.len() as u64)?;
            self.storage
                .write_at(at.get(), &zeros)
                .map_err(Error::storage(Purpose::RefcountTable))?;
            self.storage.sync().map_err(Error::storage(Purpose::Sync))
        })
    }

    /// Notes that the file was cut or extended to `file_bytes`.
    pub(crate) fn file_ends_at(&self, file_bytes: u64) {
        let books = &mut *self.lock();
        books.ledger.file_ends_at(file_bytes);
        self.note_fresh(books);
    }
}
