//! Images made to keep a check busy or to fill its memory.

use std::time::{Duration, Instant};

use qimg::check::{CheckError, CheckOptions, CheckReport, Outcome, Repair, check};
use qimg::format::{
    ClusterBits, Geometry, HeaderBuilder, HostOffset, L2Layout, RefcountOrder, Snapshot,
    SnapshotState, SnapshotTable, TablePointer,
};
use qimg::io::{MemoryStorage, Storage};

/// Far more than any of these needs, far less than what they were made for.
const TIME_MAX: Duration = Duration::from_secs(60);

fn geometry(cluster_bits: u32) -> Geometry {
    let bits = ClusterBits::new(cluster_bits).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

fn table(offset: u64, count: u32) -> TablePointer {
    TablePointer { offset: HostOffset::new(offset), count }
}

/// Header, an empty refcount table at cluster 1 and an L1 table behind it.
fn image(cluster_bits: u32, l1_entries: u32) -> (MemoryStorage, u64) {
    let geometry = geometry(cluster_bits);
    let l1 = 2 * geometry.cluster_bytes();
    let header = HeaderBuilder::new(geometry, 1 << 20)
        .l1_table(table(l1, l1_entries))
        .refcount_table(table(geometry.cluster_bytes(), 1))
        .build()
        .unwrap();
    let storage = MemoryStorage::new();
    storage.write_at(0, &header.encode()).unwrap();
    storage.set_len(l1 + u64::from(l1_entries) * 8).unwrap();
    (storage, l1)
}

fn timed(storage: &MemoryStorage, repair: Repair) -> Result<CheckReport, CheckError> {
    let start = Instant::now();
    let report = check(storage, CheckOptions { repair, ..CheckOptions::default() });
    assert!(start.elapsed() < TIME_MAX, "took {:?}", start.elapsed());
    report
}

/// One table behind 2^18 L1 entries behind 2^16 snapshots: 2^34 ways to it, all counted, in the
/// time of one.
#[test]
fn millions_of_ways_to_one_table() {
    let entries = 1 << 18;
    let (storage, l1) = image(16, entries);
    let l2: u64 = 1 << 22;
    let words: Vec<u8> = (0..entries).flat_map(|_| (l2 | 1 << 63).to_be_bytes()).collect();
    storage.write_at(l1, &words).unwrap();
    storage.set_len(l2 + (1 << 16)).unwrap();
    let state = SnapshotState { virtual_size: 1 << 20, ..SnapshotState::default() };
    let snapshot = Snapshot::new(table(l1, entries), b"1", b"", state).unwrap();
    let snapshots = SnapshotTable::new(vec![snapshot; 65536]).unwrap().encode();
    storage.write_at(1 << 23, &snapshots).unwrap();
    storage.write_at(60, &65536_u32.to_be_bytes()).unwrap();
    storage.write_at(64, &(1_u64 << 23).to_be_bytes()).unwrap();
    let report = timed(&storage, Repair::None).unwrap();
    assert_eq!(report.outcome(), Outcome::Corrupt);
    let line = format!("ERROR cluster 64 refcount=0 reference={}", 65535);
    assert!(report.findings.iter().any(|finding| finding.to_string() == line));
    // 2^34 + 2^18 references, of which 65535 fit.
    assert!(report.corruptions > 1 << 34);
}

#[test]
fn a_sparse_file_of_two_thousand_million_clusters() {
    let (storage, l1) = image(9, 4096);
    storage.set_len(1 << 40).unwrap();
    // Each L2 table lies in a hole of its own.
    let words: Vec<u8> =
        (1..=4096_u64).flat_map(|index| (index << 28 | 1 << 63).to_be_bytes()).collect();
    storage.write_at(l1, &words).unwrap();
    let report = timed(&storage, Repair::None);
    // 4096 << 28 is 2^40, one table too far.
    assert_eq!(report.unwrap().outcome(), Outcome::Corrupt);
    storage.set_len((1 << 40) + 1).unwrap();
    let error = timed(&storage, Repair::None).unwrap_err();
    assert!(matches!(error, CheckError::TooManyClusters { .. }), "{error}");
}

#[test]
fn a_million_tables_that_overlap() {
    let entries = 1 << 20;
    let (storage, l1) = image(21, entries);
    let words: Vec<u8> =
        (0..u64::from(entries)).flat_map(|index| ((1 << 24) + index * 512).to_be_bytes()).collect();
    storage.write_at(l1, &words).unwrap();
    storage.set_len(1 << 30).unwrap();
    let error = timed(&storage, Repair::None).unwrap_err();
    insta::assert_snapshot!(error, @"more than 4096 L2 tables are not cluster aligned");
}

#[test]
fn a_reference_to_the_end_of_the_number_range_does_not_make_the_file_huge() {
    let (storage, l1) = image(16, 4);
    storage.write_at(l1, &(((1_u64 << 56) - (1 << 16)) | 1 << 63).to_be_bytes()).unwrap();
    storage.write_at(l1 + 8, &(1_u64 << 46).to_be_bytes()).unwrap();
    let report = timed(&storage, Repair::All).unwrap();
    assert_eq!(report.outcome(), Outcome::Corrupt, "what dangles stays an error");
    assert!(storage.len().unwrap() < 1 << 20);
}
