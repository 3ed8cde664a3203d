//! Refcount blocks of every width, and a ledger over an arbitrary table: what is set is got, and
//! no cluster is handed out twice.

use qimg::format::{
    ClusterBits, Geometry, HostCluster, HostOffset, L2Layout, RefcountBlock, RefcountOrder,
    RefcountTableEntry,
};
use qimg::refcount::{Error, Ledger, Need, Reserve};

use crate::input::Input;

/// Requests of one input.
const REQUESTS_MAX: usize = 64;
/// Longest file, in clusters, so that a ledger stays small.
const CLUSTERS_MAX: u64 = 1 << 16;

/// Takes three bytes for the shape of the image and its table, then a block, then requests.
///
/// # Panics
/// A promise of blocks or of the ledger is broken.
pub fn refcounts(bytes: &[u8]) {
    let mut input = Input(bytes);
    let shape = input.u8();
    let order = RefcountOrder::new(u32::from(shape % 7)).expect("0..=6");
    block(order, input.0);
    ledger(order, &mut input);
}

fn block(order: RefcountOrder, bytes: &[u8]) {
    let mut block = RefcountBlock::from_bytes(order, bytes.to_vec());
    let mut free = None;
    for index in 0..block.count().min(512) {
        let value = block.get(index);
        assert!(value <= order.max_count());
        block.set(index, value).expect("what was there fits");
        if value == 0 && free.is_none() {
            free = Some(index);
        }
    }
    assert_eq!(block.as_bytes(), bytes, "get then set changes nothing");
    if free.is_some() {
        assert_eq!(block.first_free(0), free);
    }
    if let Some(above) = order.max_count().checked_add(1) {
        assert!(block.count() == 0 || block.set(0, above).is_err(), "{above} does not fit");
    }
    assert_eq!(block.is_empty(), bytes.iter().all(|&byte| byte == 0));
}

/// A ledger whose table and blocks are arbitrary, asked arbitrary things.
struct Asked {
    order: RefcountOrder,
    ledger: Ledger,
    /// What every block holds that is asked for.
    counts: Vec<u8>,
    /// Clusters whose count was 0 when they were handed out, and did not fall to 0 since.
    handed_out: Vec<u64>,
}

fn ledger(order: RefcountOrder, input: &mut Input<'_>) {
    let bits = ClusterBits::new(9).expect("9..=21");
    let geometry = Geometry::new(bits, order, L2Layout::Standard).expect("standard fits all");
    let cluster_bytes = geometry.cluster_bytes();
    let file = u64::from(input.u16()) * cluster_bytes;
    let entries = usize::from(input.u8() % 65);
    let mut table: Vec<u64> = Vec::new();
    for _ in 0..entries {
        table.push(match input.u8() {
            0 => 0,
            1 => input.u64(),
            near => u64::from(near) * cluster_bytes,
        });
    }
    table.resize(64, 0);
    let table = table.into_iter().map(RefcountTableEntry::from_bits).collect();
    let mut counts = input.bytes(cluster_bytes as usize).to_vec();
    counts.resize(cluster_bytes as usize, 0);
    let ledger = Ledger::new(geometry, HostOffset::new(cluster_bytes), table, file);
    let mut asked = Asked { order, ledger, counts, handed_out: Vec::new() };
    for _ in 0..REQUESTS_MAX {
        if input.is_empty() {
            break;
        }
        let (request, number) = (input.u8(), u64::from(input.u16()));
        if let Err(need) = asked.ask(request, number)
            && !asked.serve(need, geometry)
        {
            break;
        }
    }
}

impl Asked {
    fn ask(&mut self, request: u8, number: u64) -> Result<(), Need> {
        match request % 4 {
            0 => self.reserve(number % 100 + 1, Reserve::UpTo),
            1 => self.reserve(number % 100 + 1, Reserve::Exactly),
            2 => {
                let count = self.ledger.increment(HostCluster::new(number))?;
                assert!(count >= 1 && count <= self.order.max_count());
                Ok(())
            }
            _ => {
                if self.ledger.decrement(HostCluster::new(number))? == 0 {
                    self.handed_out.retain(|&cluster| cluster != number);
                }
                Ok(())
            }
        }
    }

    fn reserve(&mut self, wanted: u64, how: Reserve) -> Result<(), Need> {
        let run = self.ledger.reserve(wanted, how)?;
        assert!(run.count > 0 && run.count <= wanted);
        assert!(how == Reserve::UpTo || run.count == wanted);
        for cluster in run.clusters().map(HostCluster::get) {
            assert!(cluster != 0, "the header is never handed out");
            assert!(!self.handed_out.contains(&cluster), "cluster {cluster} twice");
            self.handed_out.push(cluster);
        }
        Ok(())
    }

    /// Does what the ledger cannot do alone; `false` when it is at an end.
    fn serve(&mut self, need: Need, geometry: Geometry) -> bool {
        match need {
            Need::Load { table_index, .. } => {
                let block = RefcountBlock::from_bytes(self.order, self.counts.clone());
                self.ledger.insert(table_index, block);
                true
            }
            Need::Grow(growth) => {
                let old_table = geometry.host_cluster(self.ledger.table_offset()).get();
                // Where the counts called the table free, it may have been handed out before.
                self.handed_out.retain(|&cluster| cluster != old_table);
                self.ledger.fresh_from().get() < CLUSTERS_MAX && self.ledger.grown(&growth).is_ok()
            }
            Need::Fail(Error::Overflow { .. } | Error::Underflow { .. }) => true,
            Need::Fail(error) => {
                assert!(!error.to_string().contains('\n'));
                false
            }
        }
    }
}
