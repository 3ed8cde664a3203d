//! "Does a write need a new cluster, and why": the answer for every kind of entry, as tables that
//! a reader can compare with the specification.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fmt::Write as _;

use cluster_map::{ClusterType, Dialect, WriteDecision};
use qcow2_format::{
    ClusterBits, CompressedDescriptor, Geometry, GuestOffset, HostOffset, L2Entry, L2Layout,
    RefcountOrder,
};

const COPIED: u64 = 1 << 63;
const RESERVED_LOW: u64 = 0x0000_0000_0000_01fe;
const RESERVED_HIGH: u64 = 0x3f00_0000_0000_0000;

fn geometry(cluster_bits: u32) -> Geometry {
    let bits = ClusterBits::new(cluster_bits).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

/// Every combination of what a standard entry can say, then the compressed ones.
fn entries(geometry: Geometry) -> Vec<L2Entry> {
    let cluster = geometry.cluster_bytes();
    let mut offsets = vec![0, 5 * cluster, (1 << 56) - cluster];
    if cluster > 512 {
        offsets.push(5 * cluster + 512);
    }
    let mut entries = Vec::new();
    for offset in offsets {
        for copied in [0, COPIED] {
            for zero in [0, 1] {
                for reserved in [0, RESERVED_LOW, RESERVED_HIGH] {
                    entries.push(L2Entry::from_bits(copied | reserved | offset | zero));
                }
            }
        }
    }
    for (host, len) in [(5 * cluster, 1), (5 * cluster + 77, cluster - 1), (1 << 40 | 1, 400)] {
        let descriptor = CompressedDescriptor::new(geometry, HostOffset::new(host), len).unwrap();
        let entry = descriptor.encode(geometry);
        entries.extend([entry, entry.with_copied(true)]);
    }
    // As far up as the descriptor's offset reaches.
    let x = geometry.compressed_offset_bits();
    entries.push(L2Entry::from_bits(1 << 62 | ((1 << x) - 1)));
    entries
}

fn table(dialect: Dialect) -> String {
    let mut table = String::new();
    writeln!(table, "{:>18}  {:<58}  a write there", "entry", "cluster type").unwrap();
    for entry in entries(dialect.geometry()) {
        let cluster = ClusterType::classify(dialect, GuestOffset::ZERO, entry);
        let cluster = match cluster {
            Ok(cluster) => cluster.to_string(),
            Err(error) => format!("error: {:?}", error.fault),
        };
        let decision = match WriteDecision::decide(dialect, GuestOffset::ZERO, entry.into(), 0..1) {
            Ok(WriteDecision::InPlace { host }) => format!("in place at {host}"),
            Ok(WriteDecision::NewCluster(write)) => {
                let reason = write.reason;
                let reserved = write.place.map(|host| format!(", into {host}"));
                let reserved = reserved.unwrap_or_default();
                format!(
                    "new: {}; rest from {}{reserved}",
                    reason.explanation(),
                    write.cow_end.source
                )
            }
            Err(_) => "refused".to_owned(),
        };
        writeln!(table, "{:#018x}  {cluster:<58}  {decision}", entry.bits()).unwrap();
    }
    table
}

#[test]
fn version_3() {
    insta::assert_snapshot!("v3-512", table(Dialect::version_3(geometry(9))));
    insta::assert_snapshot!("v3-4k", table(Dialect::version_3(geometry(12))));
    insta::assert_snapshot!("v3-64k", table(Dialect::version_3(geometry(16))));
    insta::assert_snapshot!("v3-2M", table(Dialect::version_3(geometry(21))));
}

#[test]
fn version_2_has_no_zero_flag() {
    insta::assert_snapshot!("v2-512", table(Dialect::version_2(geometry(9))));
    insta::assert_snapshot!("v2-64k", table(Dialect::version_2(geometry(16))));
    insta::assert_snapshot!("v2-2M", table(Dialect::version_2(geometry(21))));
}

#[test]
fn with_an_external_data_file() {
    for (name, bits) in [("external-512", 9), ("external-64k", 16), ("external-2M", 21)] {
        let dialect = Dialect::version_3(geometry(bits)).with_external_data();
        insta::assert_snapshot!(name, table(dialect));
    }
}
