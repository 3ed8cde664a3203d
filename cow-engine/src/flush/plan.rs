//! `FlushPlan`: the writes of a flush in stages, with a barrier after each stage.

use core::fmt;

use qcow2_format::{HostOffset, L1Entry, RefcountTableEntry};
use refcount::BlockWrite;

use crate::allocator::Unpublished;
use crate::error::{Area, Purpose};

/// What a flush writes, in order. All writes of a stage are durable before the next stage begins;
/// the first stage also makes all guest data durable, and exists even when it writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushPlan {
    stages: Vec<FlushStage>,
    unpublished: Vec<Unpublished>,
    /// Guest data lies in a file of its own, which is synced before the first stage.
    data_file: bool,
}

/// Writes between two barriers; their order does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushStage {
    /// What the stage achieves.
    pub name: &'static str,
    /// The writes.
    pub writes: Vec<MetadataWrite>,
}

/// One write of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataWrite {
    /// What is written.
    pub kind: MetadataKind,
    /// Where.
    pub offset: HostOffset,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Which structure a write belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataKind {
    /// A field of the header.
    Header,
    /// A whole refcount block.
    RefcountBlock,
    /// Entries of the refcount table.
    RefcountTable,
    /// A piece of an L2 table.
    L2Table,
    /// Entries of the L1 table.
    L1Table,
}

/// Longest write that neighbouring pieces are merged into, in bytes.
const MERGED_BYTES_MAX: usize = 1 << 20;

impl FlushPlan {
    pub(crate) fn new(unpublished: Vec<Unpublished>, data_file: bool) -> Self {
        Self { stages: Vec::new(), unpublished, data_file }
    }

    /// Whether an external data file is synced before the first stage.
    #[must_use]
    pub const fn syncs_data_file(&self) -> bool {
        self.data_file
    }

    /// Whether the image is marked dirty by this flush.
    pub(crate) fn marks_dirty(&self) -> bool {
        let mut writes = self.stages.iter().flat_map(|stage| &stage.writes);
        writes.any(|write| write.kind == MetadataKind::Header)
    }

    /// The stages, in order.
    #[must_use]
    pub fn stages(&self) -> &[FlushStage] {
        &self.stages
    }

    /// The stages, to be brought into a wrong order.
    #[cfg(test)]
    pub(super) const fn stages_mut(&mut self) -> &mut Vec<FlushStage> {
        &mut self.stages
    }

    /// Host clusters that lost a reference by the entries of this flush; they are counted down
    /// after the last barrier.
    #[must_use]
    pub fn unpublished(&self) -> &[Unpublished] {
        &self.unpublished
    }

    /// All counts are on disk, and so is what they count: the header says so.
    pub(crate) fn clearing_dirty_mark((offset, bytes): (HostOffset, Vec<u8>)) -> Self {
        let write = MetadataWrite { kind: MetadataKind::Header, offset, bytes };
        let stage = FlushStage { name: "no longer dirty", writes: vec![write] };
        Self { stages: vec![stage], unpublished: Vec::new(), data_file: false }
    }

    /// Counts up, together with the guest data that is already written.
    pub(crate) fn add_counts(&mut self, blocks: Vec<BlockWrite>) {
        let blocks = blocks.into_iter().map(|block| (block.offset, block.bytes)).collect();
        let writes = merge(MetadataKind::RefcountBlock, blocks);
        self.stages.push(FlushStage { name: "data and counts up", writes });
    }

    /// Counts stay in memory: instead the header says so, if it does not already.
    pub(crate) fn add_dirty_mark(&mut self, mark: Option<(HostOffset, Vec<u8>)>) {
        let kind = MetadataKind::Header;
        let write = mark.map(|(offset, bytes)| MetadataWrite { kind, offset, bytes });
        let name = if write.is_some() { "data and dirty bit" } else { "data" };
        self.stages.push(FlushStage { name, writes: write.into_iter().collect() });
    }

    /// New refcount blocks are durable: the table may point at them.
    pub(crate) fn add_hooks(&mut self, hooks: Vec<(HostOffset, RefcountTableEntry)>) {
        let words = hooks.into_iter().map(|(at, entry)| (at, word(entry.bits()))).collect();
        let writes = merge(MetadataKind::RefcountTable, words);
        if !writes.is_empty() {
            self.stages.push(FlushStage { name: "new refcount blocks", writes });
        }
    }

    /// Data and counts are durable: entries may point at them.
    pub(crate) fn add_entries(
        &mut self,
        slices: Vec<(HostOffset, Vec<u8>)>,
        l1_table: HostOffset,
        l1: &[(usize, L1Entry)],
    ) {
        let place =
            |index: usize| (index as u64).checked_mul(8).and_then(|at| l1_table.checked_add(at));
        let words = l1
            .iter()
            .filter_map(|&(index, entry)| Some((place(index)?, word(entry.bits()))))
            .collect();
        let mut writes = merge(MetadataKind::L2Table, slices);
        writes.extend(merge(MetadataKind::L1Table, words));
        if !writes.is_empty() {
            self.stages.push(FlushStage { name: "entries", writes });
        }
    }
}

impl MetadataKind {
    pub(crate) const fn purpose(self) -> Purpose {
        match self {
            Self::Header => Purpose::Header,
            Self::RefcountBlock => Purpose::RefcountBlock,
            Self::RefcountTable => Purpose::RefcountTable,
            Self::L2Table => Purpose::L2Table,
            Self::L1Table => Purpose::L1Table,
        }
    }

    /// Where such a write may go, and nowhere else.
    pub(crate) const fn area(self) -> Area {
        match self {
            Self::Header => Area::Header,
            Self::RefcountBlock => Area::RefcountBlock,
            Self::RefcountTable => Area::RefcountTable,
            Self::L2Table => Area::L2Table,
            Self::L1Table => Area::L1Table,
        }
    }
}

fn word(bits: u64) -> Vec<u8> {
    bits.to_be_bytes().to_vec()
}

/// Sorts pieces by place and joins neighbours.
pub(crate) fn merge(
    kind: MetadataKind,
    mut pieces: Vec<(HostOffset, Vec<u8>)>,
) -> Vec<MetadataWrite> {
    pieces.sort_by_key(|(offset, _)| *offset);
    let mut writes: Vec<MetadataWrite> = Vec::new();
    for (offset, bytes) in pieces {
        match writes.last_mut() {
            Some(last)
                if last.offset.checked_add(last.bytes.len() as u64) == Some(offset)
                    && last.bytes.len() < MERGED_BYTES_MAX =>
            {
                last.bytes.extend_from_slice(&bytes);
            }
            _ => writes.push(MetadataWrite { kind, offset, bytes }),
        }
    }
    writes
}

impl fmt::Display for FlushPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flush")?;
        if self.data_file {
            f.write_str("\n  data file\n    sync")?;
        }
        show_stages(f, &self.stages)?;
        if !self.unpublished.is_empty() {
            f.write_str("\n  counts down, not synced")?;
        }
        for Unpublished { run, punch } in &self.unpublished {
            let hole = if *punch { ", punched first" } else { "" };
            write!(f, "\n    host clusters {}+{}{hole}", run.first, run.count)?;
        }
        Ok(())
    }
}

/// Stages in their order, with the barrier after each.
pub(crate) fn show_stages(f: &mut fmt::Formatter<'_>, stages: &[FlushStage]) -> fmt::Result {
    for (number, stage) in stages.iter().enumerate() {
        write!(f, "\n  stage {} {}", number + 1, stage.name)?;
        for write in &stage.writes {
            let (kind, offset, len) = (write.kind, write.offset, write.bytes.len());
            write!(f, "\n    write {kind} {offset}+{len:#x}")?;
        }
        f.write_str("\n    sync")?;
    }
    Ok(())
}

impl fmt::Display for MetadataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.purpose().fmt(f)
    }
}
