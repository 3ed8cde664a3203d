//! A [`Header`] to the bytes of cluster 0.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::byteorder::big_endian::{U32, U64};

use super::raw::{COMPRESSION_TYPE_OFFSET, MAGIC, RawHeaderV2, RawHeaderV3Tail};
use super::{Header, Version};
use crate::extension::{END, RawExtensionHead};

/// See [`Header::encode`].
pub(super) fn encode(header: &Header) -> Vec<u8> {
    let mut out = encode_structured(header);
    out.extend_from_slice(&header.rest);
    let cluster_bytes = usize::try_from(header.geometry.cluster_bytes()).unwrap_or(usize::MAX);
    debug_assert!(out.len() <= cluster_bytes, "decode and rewrite keep within one cluster");
    out.resize(cluster_bytes, 0);
    out
}

/// Header fields, extensions and end marker: everything before the loose rest.
pub(super) fn encode_structured(header: &Header) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(raw_head(header).as_bytes());
    if header.version == Version::V3 {
        out.extend_from_slice(raw_tail(header).as_bytes());
        if header.header_length as usize > COMPRESSION_TYPE_OFFSET {
            out.push(header.compression_type.number());
            out.extend_from_slice(&header.beyond_compression_type);
        }
    }
    debug_assert_eq!(out.len(), header.header_length as usize, "fields fill the header length");
    for placed in &header.extensions {
        placed.encode_into(&mut out);
    }
    if let Some(length) = header.end_marker {
        let end = RawExtensionHead { magic: U32::new(END), length: U32::new(length) };
        out.extend_from_slice(end.as_bytes());
    }
    out
}

fn raw_head(header: &Header) -> RawHeaderV2 {
    RawHeaderV2 {
        magic: U32::new(MAGIC),
        version: U32::new(header.version.number()),
        backing_file_offset: U64::new(header.backing.offset),
        backing_file_size: U32::new(header.backing.size),
        cluster_bits: U32::new(header.geometry.cluster_bits().get()),
        size: U64::new(header.size),
        crypt_method: U32::new(header.crypt_method.number()),
        l1_size: U32::new(header.l1_table.count),
        l1_table_offset: U64::new(header.l1_table.offset.get()),
        refcount_table_offset: U64::new(header.refcount_table.offset.get()),
        refcount_table_clusters: U32::new(header.refcount_table.count),
        nb_snapshots: U32::new(header.snapshot_table.count),
        snapshots_offset: U64::new(header.snapshot_table.offset.get()),
    }
}

fn raw_tail(header: &Header) -> RawHeaderV3Tail {
    RawHeaderV3Tail {
        incompatible_features: U64::new(header.features.incompatible.bits()),
        compatible_features: U64::new(header.features.compatible.bits()),
        autoclear_features: U64::new(header.features.autoclear.bits()),
        refcount_order: U32::new(header.geometry.refcount_order().get()),
        header_length: U32::new(header.header_length),
    }
}
