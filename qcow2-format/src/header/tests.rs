//! Tests of the header.

use std::prelude::v1::*;

use super::*;
use crate::geometry::{L2Layout, RefcountOrder};

fn geometry(cluster_bits: u32) -> Geometry {
    let bits = ClusterBits::new(cluster_bits).unwrap();
    Geometry::new(bits, RefcountOrder::DEFAULT, L2Layout::Standard).unwrap()
}

fn table(offset: u64, count: u32) -> TablePointer {
    TablePointer { offset: HostOffset::new(offset), count }
}

fn plain() -> Header {
    HeaderBuilder::new(geometry(16), 64 << 20)
        .l1_table(table(0x30000, 1))
        .refcount_table(table(0x10000, 1))
        .build()
        .unwrap()
}

#[test]
fn a_new_header_decodes_to_itself() {
    let header = plain();
    let bytes = header.encode();
    assert_eq!(bytes.len(), 65536);
    assert_eq!(Header::decode(&bytes).unwrap(), header);
    assert_eq!(Header::decode(&bytes).unwrap().rewritten().unwrap(), header);
}
