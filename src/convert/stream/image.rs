//! Writing an image from front to back: tables made on the fly, then the data.

use qcow2_format::{
    HostOffset, L1Entry, L2Bitmap, L2Entry, L2Layout, RefcountBlock, RefcountTableEntry,
};

use super::ahead::{Ahead, Totals};
use super::layout::StreamLayout;
use super::output::Output;
use super::stretch::Stretch;
use super::{Action, Source, StreamError, StreamOptions};
use crate::convert::plan::Piece;

/// Bytes read at once, unless a cluster is larger.
const PIECE_BYTES: u64 = 1 << 20;

/// Writes the image.
pub(super) fn write(
    layout: &StreamLayout,
    source: &Source<'_>,
    options: &StreamOptions,
    out: &mut Output<'_>,
    progress: &dyn Fn(u64),
) -> Result<Totals, StreamError> {
    out.bytes(&layout.header.encode())?;
    refcounts(layout, out)?;
    l1_table(layout, out)?;
    l2_tables(layout, out)?;
    let ahead = Ahead { source, readers: options.readers, salvage: options.salvage };
    let totals = ahead.run(pieces(layout).map(Ok), &mut |piece, bytes| {
        out.bytes(bytes)?;
        progress((piece.offset + piece.len).min(source.size()));
        Ok(())
    })?;
    progress(source.size());
    Ok(totals)
}

/// The refcount table and its blocks: every cluster of the image is used once.
fn refcounts(layout: &StreamLayout, out: &mut Output<'_>) -> Result<(), StreamError> {
    let geometry = layout.geometry();
    for index in 0..layout.block_count {
        out.word(RefcountTableEntry::new(layout.offset(layout.blocks() + index)).bits())?;
    }
    out.zeros_up_to(layout.offset(layout.blocks()).get())?;
    let per_block = geometry.refcounts_per_block();
    let full = block(layout, per_block);
    for index in 0..layout.block_count {
        match layout.clusters() - index * per_block {
            left if left < per_block => out.bytes(block(layout, left).as_bytes())?,
            _ => out.bytes(full.as_bytes())?,
        }
    }
    Ok(())
}

/// A refcount block whose first `used` counts are 1.
fn block(layout: &StreamLayout, used: u64) -> RefcountBlock {
    let geometry = layout.geometry();
    let bytes = geometry.cluster_bytes() as usize; // at most 2 MiB
    let mut block = RefcountBlock::zeroed(geometry.refcount_order(), bytes);
    for index in 0..used as usize {
        // 1 fits every width.
        let _ = block.set(index, 1);
    }
    block
}

fn l1_table(layout: &StreamLayout, out: &mut Output<'_>) -> Result<(), StreamError> {
    let mut known = layout.tables.iter().zip(layout.l2()..).peekable();
    for index in 0..u64::from(layout.header.l1_entry_count()) {
        let entry = match known.next_if(|(table, _)| **table == index) {
            Some((_, place)) => L1Entry::owned(layout.offset(place)),
            None => L1Entry::UNALLOCATED,
        };
        out.word(entry.bits())?;
    }
    out.zeros_up_to(layout.offset(layout.l2()).get())
}

/// One table after the other; data clusters are handed out in guest order on the way.
fn l2_tables(layout: &StreamLayout, out: &mut Output<'_>) -> Result<(), StreamError> {
    let per_table = layout.geometry().l2_entry_count();
    let mut host = layout.data();
    // Entries of these tables that come next, by guest cluster.
    let mut tables = layout.tables.iter();
    let (mut at, mut end) = (0, 0);
    for stretch in &layout.stretches {
        let mut left = *stretch;
        while left.count > 0 {
            if left.first >= end {
                unallocated(layout, out, end - at)?;
                // There is a table for every cluster of every stretch.
                let Some(table) = tables.next() else { return Ok(()) };
                (at, end) = (table * per_table, (table + 1) * per_table);
            }
            unallocated(layout, out, left.first - at)?;
            let now = left.count.min(end - left.first);
            entries(layout, out, Stretch { count: now, ..left }, host)?;
            host += if left.zero { 0 } else { now };
            at = left.first + now;
            left = Stretch { first: at, count: left.count - now, ..left };
        }
    }
    unallocated(layout, out, end - at)
}

fn unallocated(
    layout: &StreamLayout,
    out: &mut Output<'_>,
    entries: u64,
) -> Result<(), StreamError> {
    out.zeros(entries * layout.geometry().l2_entry_bytes())
}

/// The entries of a stretch whose first data cluster lies at `host`.
fn entries(
    layout: &StreamLayout,
    out: &mut Output<'_>,
    stretch: Stretch,
    host: u64,
) -> Result<(), StreamError> {
    let extended = layout.geometry().l2_layout() == L2Layout::Extended;
    for index in 0..stretch.count {
        let (entry, bitmap) = match (stretch.zero, extended) {
            (false, _) => {
                let place: HostOffset = layout.offset(host + index);
                (L2Entry::owned(place), L2Bitmap::ALL_ALLOCATED)
            }
            (true, false) => (L2Entry::ZERO_PLAIN, L2Bitmap::EMPTY),
            // There the bitmap alone says that something is zeros.
            (true, true) => (L2Entry::UNALLOCATED, L2Bitmap::ALL_ZERO),
        };
        out.word(entry.bits())?;
        if extended {
            out.word(bitmap.bits())?;
        }
    }
    Ok(())
}

/// What has to be read, in pieces of whole clusters. The last cluster may reach beyond the disk,
/// where there are zeros.
fn pieces(layout: &StreamLayout) -> impl Iterator<Item = Piece> + Send + '_ {
    let cluster = layout.geometry().cluster_bytes();
    let most = PIECE_BYTES.max(cluster);
    let data = layout.stretches.iter().filter(|stretch| !stretch.zero);
    data.flat_map(move |stretch| {
        let (start, len) = (stretch.first * cluster, stretch.count * cluster);
        (0..len.div_ceil(most)).map(move |index| {
            let offset = start + index * most;
            Piece { offset, len: most.min(start + len - offset), action: Action::Copy }
        })
    })
}
