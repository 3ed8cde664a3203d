//! `explain` for programs.

use qimg::engine::{ClusterType, EntryBits, Explanation, WriteDecision};
use qimg::format::{HostOffset, L2Entry};
use serde::Serialize;

use super::{LayerView, Resolution};

/// The whole answer.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Answer {
    offset: u64,
    virtual_size: u64,
    read: Read,
    #[serde(skip_serializing_if = "Option::is_none")]
    write: Option<Write>,
    layers: Vec<Layer>,
}

/// The line `map` prints for this byte.
#[derive(Serialize)]
struct Read {
    depth: usize,
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Write {
    in_place: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies_from: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    depth: usize,
    filename: String,
    format: String,
    virtual_size: u64,
    asked: bool,
    answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Entries>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entries {
    l1_index: u64,
    l1_entry: u64,
    l1_bits: Vec<Bits>,
    l2_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    l2_entry: Option<u64>,
    l2_bits: Vec<Bits>,
    cluster_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

#[derive(Serialize)]
struct Bits {
    low: u32,
    high: u32,
    name: &'static str,
    value: u64,
}

impl From<&Resolution<'_>> for Answer {
    fn from(resolution: &Resolution<'_>) -> Self {
        let status = &resolution.status;
        let layer = |(depth, view)| Layer::new(depth, view, resolution);
        Self {
            offset: resolution.offset,
            virtual_size: resolution.chain.virtual_size(),
            read: Read {
                depth: status.depth,
                present: status.present,
                zero: status.zero,
                data: status.data,
                compressed: status.compressed,
                offset: status.host_offset,
            },
            write: resolution.layers.first().and_then(write),
            layers: resolution.layers.iter().enumerate().map(layer).collect(),
        }
    }
}

fn write(top: &LayerView<'_>) -> Option<Write> {
    let Some(explanation) = &top.explanation else {
        return Some(Write { in_place: true, reason: "raw", copies_from: None });
    };
    Some(match explanation.write? {
        WriteDecision::InPlace { .. } => {
            Write { in_place: true, reason: "normal and COPIED", copies_from: None }
        }
        WriteDecision::NewCluster(write) => Write {
            in_place: false,
            reason: write.reason.explanation(),
            copies_from: Some(write.cow_end.source.to_string()),
        },
    })
}

impl Layer {
    fn new(depth: usize, view: &LayerView<'_>, resolution: &Resolution<'_>) -> Self {
        Self {
            depth,
            filename: view.layer.path().to_string_lossy().into_owned(),
            format: view.layer.format().to_string(),
            virtual_size: view.layer.virtual_size(),
            asked: view.asked,
            answers: resolution.status.present && depth == resolution.status.depth,
            entries: view.explanation.as_ref().map(Entries::new),
        }
    }
}

impl Entries {
    fn new(explanation: &Explanation) -> Self {
        let bits = |groups: Vec<EntryBits>| {
            groups
                .into_iter()
                .map(|EntryBits { low, high, value, name }| Bits { low, high, name, value })
                .collect()
        };
        Self {
            l1_index: explanation.l1_index,
            l1_entry: explanation.l1_entry.bits(),
            l1_bits: bits(explanation.l1_bits()),
            l2_index: explanation.l2_index,
            l2_entry: explanation.l2_entry.map(L2Entry::bits),
            l2_bits: bits(explanation.l2_bits()),
            cluster_offset: explanation.cluster_guest.get(),
            cluster_type: explanation.cluster.ok().map(ClusterType::name),
            host_offset: explanation.host_offset().map(HostOffset::get),
            damage: explanation.cluster.err().map(|error| error.to_string()),
        }
    }
}
