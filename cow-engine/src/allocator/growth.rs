//! Growth of the refcount table: decided as a value, carried out stage by stage.

use core::fmt;

use qcow2_format::{FieldUpdate, HostOffset, TablePointer};
use refcount::{HostRun, Ledger, Need, TableGrowth};

use super::{Allocator, Books, Unpublished};
use crate::error::{Area, Error, Purpose, Result};
use crate::flush::{FlushStage, MetadataKind, MetadataWrite, merge, show_stages};
use crate::metadata_map::MetadataMap;

/// The writes of a growth, in order. All writes of a stage are durable before the next stage begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GrowthPlan {
    stages: [FlushStage; 2],
    old_table: HostRun,
}

impl GrowthPlan {
    /// What brings the disk where a ledger already is that [has grown](Ledger::grown). The blocks
    /// and table entries that it takes then count as written.
    fn take(ledger: &mut Ledger, growth: &TableGrowth) -> Result<Self> {
        let table = ledger.table_offset();
        let words = ledger.table().iter().flat_map(|entry| entry.bits().to_be_bytes()).collect();
        // The new table names all blocks, those that the old one lacks included.
        ledger.take_hooks();
        let blocks = ledger.take_dirty().into_iter().map(|block| (block.offset, block.bytes));
        let mut writes = merge(MetadataKind::RefcountBlock, blocks.collect());
        let kind = MetadataKind::RefcountTable;
        writes.push(MetadataWrite { kind, offset: table, bytes: words });
        let counts = FlushStage { name: "counts up and the new table", writes };
        let clusters = u32::try_from(growth.table_clusters)
            .map_err(|_| Error::Plan { reason: "refcount table too large for the header" })?;
        let update = FieldUpdate::refcount_table(TablePointer { offset: table, count: clusters });
        let (kind, offset) = (MetadataKind::Header, HostOffset::new(update.offset()));
        let writes = vec![MetadataWrite { kind, offset, bytes: update.bytes().to_vec() }];
        let switch = FlushStage { name: "the header leads to the new table", writes };
        let old_table = HostRun { first: growth.old_table, count: growth.old_table_clusters };
        Ok(Self { stages: [counts, switch], old_table })
    }
}

impl fmt::Display for GrowthPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostRun { first, count } = self.old_table;
        f.write_str("growth of the refcount table")?;
        show_stages(f, &self.stages)?;
        write!(f, "\n  counted down by the next flush\n    host clusters {first}+{count}")
    }
}

impl Allocator {
    /// Grows the refcount table. The caller holds the write-back lock. A failure leaves the ledger
    /// ahead of the disk: the image is given up.
    pub(super) fn grow(
        &self,
        map: &MetadataMap,
        books: &mut Books,
        growth: TableGrowth,
    ) -> Result<()> {
        self.poison.guarding(|| {
            books.ledger.grown(&growth).map_err(|need| match need {
                Need::Fail(error) => Error::Refcount(error),
                _ => Error::Plan { reason: "growth of the refcount table needs no block" },
            })?;
            self.claim_blocks(map, books)?;
            let plan = GrowthPlan::take(&mut books.ledger, &growth)?;
            let table_bytes = books.ledger.table().len() as u64 * 8;
            map.claim(Area::RefcountTable, books.ledger.table_offset(), table_bytes)?;
            plan.stages.iter().try_for_each(|stage| self.write_stage(map, stage))?;
            books.ledger.written();
            // Counted down with the next flush, like everything that nothing points at any more.
            map.retire(plan.old_table);
            books.unpublished.push(Unpublished { run: plan.old_table, punch: false });
            Ok(())
        })
    }

    fn write_stage(&self, map: &MetadataMap, stage: &FlushStage) -> Result<()> {
        for write in &stage.writes {
            map.guard_metadata(write.kind.area(), write.offset, write.bytes.len() as u64)?;
            self.storage
                .write_at(write.offset.get(), &write.bytes)
                .map_err(Error::storage(write.kind.purpose()))?;
        }
        self.storage.sync().map_err(Error::storage(Purpose::Sync))
    }
}

#[cfg(test)]
mod tests {
    use qcow2_format::{
        ClusterBits, Geometry, HostCluster, L2Layout, RefcountBlock, RefcountOrder,
        RefcountTableEntry,
    };
    use refcount::Reserve;

    use super::*;

    /// A table of one cluster, 64 entries, of which the first two have blocks of 256 counts.
    fn ledger() -> Ledger {
        let bits = ClusterBits::new(9).unwrap();
        let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap();
        let mut table = vec![RefcountTableEntry::ABSENT; 64];
        table[0] = RefcountTableEntry::new(HostOffset::new(2 << 9));
        let mut ledger = Ledger::new(geometry, HostOffset::new(1 << 9), table, 4 << 9);
        let mut block = RefcountBlock::zeroed(RefcountOrder::DEFAULT, 512);
        (0..4).for_each(|slot| block.set(slot, 1).unwrap());
        ledger.insert(0, block);
        // Some of the second block's range, so that the old table does not know it yet.
        for _ in 0..2 {
            ledger.reserve(254, Reserve::UpTo).unwrap();
        }
        ledger
    }

    fn plan(clusters: u64) -> GrowthPlan {
        let mut ledger = ledger();
        let growth = ledger.plan_area(clusters).unwrap();
        ledger.grown(&growth).unwrap();
        let plan = GrowthPlan::take(&mut ledger, &growth).unwrap();
        assert!(!ledger.is_dirty(), "something of the ledger is not in the plan");
        plan
    }

    #[test]
    fn growth_switches_once_everything_is_there() {
        insta::assert_snapshot!(plan(1), @r"
        growth of the refcount table
          stage 1 counts up and the new table
            write refcount block 0x400+0x200
            write refcount block 0x20000+0x200
            write refcount block 0x800000+0x200
            write refcount table 0x800200+0x400
            sync
          stage 2 the header leads to the new table
            write header 0x30+0xc
            sync
          counted down by the next flush
            host clusters 1+1
        ");
    }

    #[test]
    fn growth_with_an_area_has_all_the_blocks_that_count_it() {
        insta::assert_snapshot!(plan(700), @r"
        growth of the refcount table
          stage 1 counts up and the new table
            write refcount block 0x400+0x200
            write refcount block 0x20000+0x200
            write refcount block 0x800000+0x600
            write refcount table 0x800600+0x400
            sync
          stage 2 the header leads to the new table
            write header 0x30+0xc
            sync
          counted down by the next flush
            host clusters 1+1
        ");
    }

    #[test]
    fn the_old_table_is_given_up_last() {
        let plan = plan(1);
        let old = HostRun { first: HostCluster::new(1), count: 1 };
        assert_eq!(plan.old_table, old);
        let [counts, switch] = &plan.stages;
        assert!(counts.writes.iter().all(|write| write.kind != MetadataKind::Header));
        assert!(switch.writes.iter().all(|write| write.kind == MetadataKind::Header));
    }
}
