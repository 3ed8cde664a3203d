//! The end of the counts, and growth that hands out neighbours.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use qcow2_format::{
    ClusterBits, Geometry, HostCluster, HostOffset, L2Layout, RefcountBlock, RefcountOrder,
    RefcountTableEntry,
};
use refcount::{Ledger, Need, Reserve};

const CLUSTER: u64 = 512;
/// 16-bit counts in a block of 512 bytes.
const PER_BLOCK: u64 = 256;

/// A ledger whose blocks lie at these clusters and count these clusters, all in memory.
fn ledger(blocks: &[(u64, &[u64])]) -> Ledger {
    let bits = ClusterBits::new(9).unwrap();
    let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap();
    let mut table = vec![RefcountTableEntry::ABSENT; 64];
    for (index, (cluster, _)) in blocks.iter().enumerate() {
        if *cluster > 0 {
            table[index] = RefcountTableEntry::new(HostOffset::new(cluster * CLUSTER));
        }
    }
    let mut ledger = Ledger::new(geometry, HostOffset::new(CLUSTER), table, 3000 * CLUSTER);
    for (index, (cluster, used)) in blocks.iter().enumerate().filter(|(_, (at, _))| *at > 0) {
        let mut block = RefcountBlock::zeroed(RefcountOrder::DEFAULT, CLUSTER as usize);
        for slot in *used {
            block.set(*slot as usize, 1).unwrap();
        }
        assert!(*cluster > 0);
        ledger.insert(index as u64, block);
    }
    ledger
}

#[test]
fn blocks_that_count_only_themselves_are_empty() {
    // The second block lies in its own range, the third is missing, the fourth lies in the first.
    let mut ledger = ledger(&[(2, &[0, 1, 2, 9]), (PER_BLOCK + 5, &[5]), (0, &[]), (9, &[])]);
    let last = ledger.last_block(u64::MAX).unwrap().unwrap();
    assert_eq!((last.table_index, last.is_empty), (3, true));
    assert_eq!(last.end, HostCluster::new(3 * PER_BLOCK));
    let second = ledger.last_block(last.table_index).unwrap().unwrap();
    assert_eq!((second.table_index, second.is_empty), (1, true));
    assert_eq!(second.end, HostCluster::new(PER_BLOCK + 6));
    let first = ledger.last_block(second.table_index).unwrap().unwrap();
    assert_eq!((first.table_index, first.is_empty), (0, false));
    assert_eq!(first.end, HostCluster::new(10));
    assert_eq!(ledger.last_block(0), Ok(None));
    assert_eq!(ledger.forget_block(&last), Some(HostCluster::new(9)), "counted elsewhere");
    assert_eq!(ledger.forget_block(&second), None, "counted by itself");
    assert_eq!(ledger.last_block(u64::MAX).unwrap().unwrap().table_index, 0);
    assert_eq!(ledger.count(HostCluster::new(PER_BLOCK + 5)), Ok(0));
    ledger.file_ends_at(10 * CLUSTER);
    assert_eq!(ledger.fresh_from(), HostCluster::new(10));
}

#[test]
fn a_block_in_use_is_not_empty() {
    let shared = ledger(&[(2, &[0, 1, 2]), (PER_BLOCK, &[0, 7])]);
    let last = shared.last_block(u64::MAX).unwrap().unwrap();
    assert_eq!((last.is_empty, last.end), (false, HostCluster::new(PER_BLOCK + 8)));
    let mut twice = ledger(&[(2, &[0, 1, 2]), (PER_BLOCK, &[0])]);
    twice.increment(HostCluster::new(PER_BLOCK)).unwrap();
    assert!(!twice.last_block(u64::MAX).unwrap().unwrap().is_empty, "something else is there");
}

#[test]
fn a_block_that_is_not_in_memory_is_named() {
    let mut ledger = ledger(&[(2, &[0, 1, 2])]);
    ledger.evict(0);
    let need = Need::Load { table_index: 0, block: HostOffset::new(2 * CLUSTER) };
    assert_eq!(ledger.last_block(u64::MAX), Err(need));
}

#[test]
fn growth_hands_out_more_neighbours_than_a_block_counts() {
    let mut ledger = ledger(&[(2, &[0, 1, 2])]);
    let growth = ledger.plan_area(700).unwrap();
    insta::assert_snapshot!(growth, @r"
    write 3 refcount blocks at host cluster 16384
    write refcount table, 2 clusters at host cluster 16387
    hand out 700 clusters at host cluster 16389
    sync
    write header: refcount table at host cluster 16387
    sync
    free old refcount table, 1 clusters at host cluster 1
    ");
    ledger.grown(&growth).unwrap();
    for cluster in growth.area.get()..growth.area.get() + growth.area_clusters() {
        assert_eq!(ledger.count(HostCluster::new(cluster)), Ok(1), "{cluster}");
    }
    let end = growth.extra().get() + 700;
    assert_eq!(ledger.count(HostCluster::new(end)), Ok(0));
    assert_eq!(ledger.fresh_from(), HostCluster::new(end));
    assert_eq!(ledger.table_offset(), HostOffset::new(growth.table().get() * CLUSTER));
    // Nothing of it is handed out again.
    let run = ledger.reserve(40_000, Reserve::UpTo).unwrap();
    assert_eq!(run.first, HostCluster::new(3));
    assert!(run.end() <= growth.area.get());
}
