//! The ledger against plain counts: random histories on a disk in memory, for every width.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use qcow2_format::{
    ClusterBits, Geometry, HostCluster, HostOffset, L2Layout, RefcountBlock, RefcountOrder,
    RefcountTableEntry,
};
use refcount::{Error, HostRun, Ledger, Need, Position, Reserve, TableGrowth};

const CLUSTER: u64 = 512;
/// Header, refcount table, refcount block.
const USED_AT_FIRST: u64 = 3;

fn geometry(order: u32) -> Geometry {
    let bits = ClusterBits::new(9).unwrap();
    Geometry::new(bits, RefcountOrder::new(order).unwrap(), L2Layout::Standard).unwrap()
}

fn offset(cluster: u64) -> HostOffset {
    HostOffset::new(cluster * CLUSTER)
}

/// The refcount structure as it lies on disk, and what it should say.
struct Disk {
    geometry: Geometry,
    table_offset: HostOffset,
    table: Vec<RefcountTableEntry>,
    blocks: BTreeMap<u64, Vec<u8>>,
    /// Clusters in use with their counts.
    model: BTreeMap<u64, u64>,
    growths: u32,
}

impl Disk {
    fn new(order: u32) -> Self {
        let geometry = geometry(order);
        let mut block = RefcountBlock::zeroed(geometry.refcount_order(), CLUSTER as usize);
        let model: BTreeMap<u64, u64> = (0..USED_AT_FIRST).map(|cluster| (cluster, 1)).collect();
        for &cluster in model.keys() {
            block.set(cluster as usize, 1).unwrap();
        }
        let mut table = vec![RefcountTableEntry::ABSENT; 64];
        table[0] = RefcountTableEntry::new(offset(2));
        let blocks = BTreeMap::from([(2 * CLUSTER, block.as_bytes().to_vec())]);
        Self { geometry, table_offset: offset(1), table, blocks, model, growths: 0 }
    }

    fn open(&self) -> Ledger {
        let end = self.model.keys().last().unwrap() + 1;
        Ledger::new(self.geometry, self.table_offset, self.table.clone(), end * CLUSTER)
    }

    /// Asks until the ledger needs nothing any more.
    fn drive<T>(
        &mut self,
        ledger: &mut Ledger,
        mut ask: impl FnMut(&mut Ledger) -> Result<T, Need>,
    ) -> Result<T, Error> {
        loop {
            let answer = ask(ledger);
            for block in ledger.take_added() {
                self.note_block(block);
            }
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Need::Load { table_index, block }) => {
                    assert_eq!(self.table[table_index as usize].block_offset(), Some(block));
                    let bytes = self.blocks[&block.get()].clone();
                    // As little memory as a search for neighbours can do with.
                    ledger.evict(1);
                    let order = self.geometry.refcount_order();
                    ledger.insert(table_index, RefcountBlock::from_bytes(order, bytes));
                }
                Err(Need::Grow(growth)) => self.grow(ledger, &growth),
                Err(Need::Fail(error)) => return Err(error),
            }
        }
    }

    /// RC-4: a new block lies in the range that it counts.
    fn note_block(&mut self, block: HostOffset) {
        let cluster = self.geometry.host_cluster(block);
        let index = Position::of(self.geometry, cluster).table_index;
        assert_eq!(Position::first_cluster(self.geometry, index), cluster, "RC-4: foreign range");
        assert_eq!(self.model.insert(cluster.get(), 1), None, "RC-2: a block on a used cluster");
    }

    fn grow(&mut self, ledger: &mut Ledger, growth: &TableGrowth) {
        ledger.grown(growth).unwrap();
        for block in ledger.take_added() {
            // Blocks of a growth lie one behind the other, so only the first in its own range.
            assert_eq!(self.model.insert(self.geometry.host_cluster(block).get(), 1), None);
        }
        let table = growth.table().get();
        for cluster in table..table + growth.table_clusters {
            assert_eq!(self.model.insert(cluster, 1), None, "RC-2: a table on a used cluster");
        }
        self.flush(ledger);
        let old = HostRun { first: growth.old_table, count: growth.old_table_clusters };
        for cluster in old.clusters() {
            assert_eq!(self.drive(ledger, |ledger| ledger.decrement(cluster)), Ok(0));
            self.model.remove(&cluster.get());
        }
        self.growths += 1;
    }

    fn flush(&mut self, ledger: &mut Ledger) {
        let hooks = ledger.take_hooks();
        for write in ledger.take_dirty() {
            self.blocks.insert(write.offset.get(), write.bytes);
        }
        ledger.written();
        self.table.resize(ledger.table().len(), RefcountTableEntry::ABSENT);
        self.table_offset = ledger.table_offset();
        for (index, entry) in hooks {
            self.table[index as usize] = entry;
        }
        assert_eq!(self.table, ledger.table(), "every entry was hooked");
        assert!(!ledger.is_dirty());
        assert_eq!(ledger.held_count(), 0);
    }

    fn first_free(&self) -> u64 {
        (1..).find(|cluster| !self.model.contains_key(cluster)).unwrap()
    }

    fn first_free_run(&self, wanted: u64) -> u64 {
        let free = |cluster: &u64| !self.model.contains_key(cluster);
        (1..).find(|first| (*first..first + wanted).all(|cluster| free(&cluster))).unwrap()
    }

    /// RC-2 and RC-3.
    fn reserve(&mut self, ledger: &mut Ledger, wanted: u64, how: Reserve) -> HostRun {
        let run = self.drive(ledger, |ledger| ledger.reserve(wanted, how)).unwrap();
        match how {
            Reserve::UpTo => {
                assert!((1..=wanted).contains(&run.count));
                assert_eq!(run.first.get(), self.first_free(), "the first free cluster");
            }
            Reserve::Exactly => {
                assert_eq!(run.count, wanted);
                assert_eq!(run.first.get(), self.first_free_run(wanted), "the first that is free");
            }
        }
        for cluster in run.clusters() {
            assert_ne!(cluster.get(), 0, "RC-3");
            assert_eq!(self.model.insert(cluster.get(), 1), None, "RC-2: {cluster} was in use");
        }
        run
    }

    /// Every count is what the model says, some way beyond the last cluster in use too.
    fn compare(&mut self, ledger: &mut Ledger) {
        let end = self.model.keys().last().unwrap() + 300;
        for cluster in 0..end {
            let expected = self.model.get(&cluster).copied().unwrap_or(0);
            let cluster = HostCluster::new(cluster);
            assert_eq!(self.drive(ledger, |ledger| ledger.count(cluster)), Ok(expected));
            assert!(expected == 0 || cluster < ledger.fresh_from(), "{cluster} is not fresh");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve(u64, Reserve),
    Increment(usize),
    Decrement(usize),
    Flush,
    Evict(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..60).prop_map(|count| Step::Reserve(count, Reserve::UpTo)),
        2 => (1_u64..60).prop_map(|count| Step::Reserve(count, Reserve::Exactly)),
        2 => any::<usize>().prop_map(Step::Increment),
        6 => any::<usize>().prop_map(Step::Decrement),
        1 => Just(Step::Flush),
        1 => (0_usize..4).prop_map(Step::Evict),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #[test]
    fn rc_1_to_rc_4_hold_in_any_history(
        order in 0_u32..=6,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut disk = Disk::new(order);
        let mut ledger = disk.open();
        let max = disk.geometry.refcount_order().max_count();
        for step in steps {
            // Data clusters; the tables keep their count.
            let data: Vec<u64> = disk.model.keys().copied().filter(|&cluster| {
                let block = |entry: &RefcountTableEntry| entry.block_offset() == Some(offset(cluster));
                cluster >= USED_AT_FIRST && !ledger.table().iter().any(block)
            }).collect();
            match step {
                Step::Reserve(wanted, how) => {
                    disk.reserve(&mut ledger, wanted, how);
                }
                Step::Increment(pick) | Step::Decrement(pick) if !data.is_empty() => {
                    let cluster = data[pick % data.len()];
                    let count = disk.model[&cluster];
                    let host = HostCluster::new(cluster);
                    if matches!(step, Step::Increment(_)) {
                        let found = disk.drive(&mut ledger, |ledger| ledger.increment(host));
                        let full = Err(Error::Overflow { cluster: host, max });
                        prop_assert_eq!(found, if count < max { Ok(count + 1) } else { full });
                        disk.model.insert(cluster, count.saturating_add(1).min(max));
                    } else {
                        let found = disk.drive(&mut ledger, |ledger| ledger.decrement(host));
                        prop_assert_eq!(found, Ok(count - 1));
                        disk.model.insert(cluster, count - 1);
                        disk.model.retain(|_, count| *count > 0);
                    }
                }
                Step::Increment(_) | Step::Decrement(_) => {}
                Step::Flush => disk.flush(&mut ledger),
                Step::Evict(keep) => ledger.evict(keep),
                Step::Reopen => {
                    disk.flush(&mut ledger);
                    ledger = disk.open();
                }
            }
        }
        disk.compare(&mut ledger);
        disk.flush(&mut ledger);
        let mut reopened = disk.open();
        disk.compare(&mut reopened);
    }
}

/// 64-bit counts and 512-byte clusters: one table cluster describes 4096 clusters.
#[test]
fn rc_4_the_table_grows_with_blocks_that_count_themselves() {
    let mut disk = Disk::new(6);
    let mut ledger = disk.open();
    let mut handed_out = 0;
    while handed_out < 20_000 {
        handed_out += disk.reserve(&mut ledger, 700, Reserve::UpTo).count;
    }
    assert!(disk.growths >= 2, "{} growths", disk.growths);
    disk.compare(&mut ledger);
    disk.flush(&mut ledger);
    let mut reopened = disk.open();
    disk.compare(&mut reopened);
}

#[test]
fn a_block_on_its_way_to_the_disk_stays() {
    let mut disk = Disk::new(4);
    let mut ledger = disk.open();
    disk.reserve(&mut ledger, 5, Reserve::UpTo);
    ledger.evict(0);
    assert_eq!(ledger.block_count(), 1, "it is changed");
    assert_eq!(ledger.take_dirty().len(), 1);
    ledger.evict(0);
    assert_eq!(ledger.block_count(), 1, "read back now it would be the old one");
    ledger.written();
    ledger.evict(0);
    assert_eq!(ledger.block_count(), 0);
}

#[test]
fn a_search_for_neighbours_goes_on_where_it_asked_for_a_block() {
    // Single free clusters in every range but the last.
    let mut disk = Disk::new(4);
    let mut ledger = disk.open();
    while ledger.fresh_from().get() < 10 * 256 {
        disk.reserve(&mut ledger, 60, Reserve::UpTo);
    }
    for range in 0..10 {
        let hole = HostCluster::new(range * 256 + 77);
        disk.drive(&mut ledger, |ledger| ledger.decrement(hole)).unwrap();
        disk.model.remove(&hole.get());
    }
    disk.flush(&mut ledger);
    let mut ledger = disk.open();
    let mut asked = 0;
    let run = disk.drive(&mut ledger, |ledger| {
        let answer = ledger.reserve(2, Reserve::Exactly);
        asked += usize::from(matches!(answer, Err(Need::Load { .. })));
        answer
    });
    assert!(run.unwrap().first.get() > 9 * 256);
    assert!((10..=12).contains(&asked), "{asked} blocks were read, and one or two kept");
    // Fewer neighbours fit further down, and so does what was freed meanwhile.
    assert_eq!(
        disk.drive(&mut ledger, |ledger| ledger.reserve(1, Reserve::UpTo)).unwrap().first.get(),
        77
    );
}

#[test]
fn a_growth_prints_its_order() {
    let mut disk = Disk::new(6);
    let mut ledger = disk.open();
    let growth = disk.drive(&mut ledger, |ledger| match ledger.reserve(5000, Reserve::Exactly) {
        Err(Need::Grow(growth)) => Ok(growth),
        Err(need) => Err(need),
        Ok(run) => panic!("{run:?} without a growth"),
    });
    insta::assert_snapshot!(growth.unwrap(), @r"
    write 1 refcount blocks at host cluster 4096
    write refcount table, 2 clusters at host cluster 4097
    sync
    write header: refcount table at host cluster 4097
    sync
    free old refcount table, 1 clusters at host cluster 1
    ");
}

#[test]
fn rc_1_a_count_that_is_0_does_not_fall() {
    let mut disk = Disk::new(4);
    let mut ledger = disk.open();
    let cluster = HostCluster::new(77);
    let found = disk.drive(&mut ledger, |ledger| ledger.decrement(cluster));
    assert_eq!(found, Err(Error::Underflow { cluster }));
    assert_eq!(disk.drive(&mut ledger, |ledger| ledger.count(cluster)), Ok(0));
}

/// RC-3: counts that call the header free are damage, and nothing is handed out from them.
#[test]
fn rc_3_without_the_first_block_nothing_is_handed_out() {
    let geometry = geometry(4);
    let table = vec![RefcountTableEntry::ABSENT; 64];
    let mut ledger = Ledger::new(geometry, offset(1), table, 3 * CLUSTER);
    assert_eq!(ledger.reserve(1, Reserve::UpTo), Err(Need::Fail(Error::HeaderFree)));
    let mut disk = Disk::new(4);
    let block = RefcountBlock::zeroed(geometry.refcount_order(), CLUSTER as usize);
    disk.blocks.insert(2 * CLUSTER, block.as_bytes().to_vec());
    let mut ledger = disk.open();
    let run = disk.drive(&mut ledger, |ledger| ledger.reserve(4, Reserve::Exactly)).unwrap();
    assert_eq!(run.first.get(), 1, "the header cluster never, whatever its count");
}

#[test]
fn rc_4_an_absent_block_counts_0_and_needs_nothing() {
    let ledger = Disk::new(4).open();
    assert_eq!(ledger.count(HostCluster::new(256 * 5)), Ok(0));
    assert_eq!(ledger.count(HostCluster::new(u64::MAX)), Ok(0), "beyond the table too");
    let first = Need::Load { table_index: 0, block: offset(2) };
    assert_eq!(ledger.count(HostCluster::new(255)), Err(first));
}

#[test]
fn a_table_entry_off_the_clusters_is_refused_with_its_index() {
    // A cluster of 512 bytes has no offsets between clusters that an entry could say.
    let bits = ClusterBits::DEFAULT;
    let geometry = Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap();
    let found = HostOffset::new(0x2_0200);
    let table = vec![RefcountTableEntry::new(found)];
    let mut ledger = Ledger::new(geometry, HostOffset::new(0x1_0000), table, 1 << 20);
    let error = Error::UnalignedBlock { table_index: 0, found };
    assert_eq!(ledger.reserve(1, Reserve::UpTo), Err(Need::Fail(error)));
}
