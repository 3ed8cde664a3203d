//! `explain` for people.

use std::fmt::Write;

use qimg::engine::{EntryBits, Explanation, WriteDecision};
use qimg::format::HostOffset;

use super::{LayerView, Resolution};
use crate::report::bytes;

/// Renders the way from the top layer to the answer, and what a write would do.
pub(crate) fn render(resolution: &Resolution<'_>) -> String {
    let size = resolution.chain.virtual_size();
    let offset = resolution.offset;
    let mut text =
        format!("guest offset {offset:#x} ({offset}) of a disk of {}\n", bytes::human(size));
    for (depth, view) in resolution.layers.iter().enumerate() {
        text.push('\n');
        text.push_str(&layer(depth, view, resolution));
    }
    let _ = write!(text, "\nread:  {}\nwrite: {}\n", read(resolution), write_text(resolution));
    text
}

fn layer(depth: usize, view: &LayerView<'_>, resolution: &Resolution<'_>) -> String {
    let layer = view.layer;
    let size = bytes::human(layer.virtual_size());
    let mut text = format!("[{depth}] {}  ({}, {size})\n", layer.path().display(), layer.format());
    for line in body(depth, view, resolution) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn body(depth: usize, view: &LayerView<'_>, resolution: &Resolution<'_>) -> Vec<String> {
    if !view.asked {
        return vec!["not asked: a layer above answers".into()];
    }
    if resolution.offset >= view.layer.virtual_size() {
        return vec!["ends before this offset: zeros".into()];
    }
    match &view.explanation {
        Some(explanation) => entries(depth, explanation, resolution),
        None => raw(resolution),
    }
}

fn raw(resolution: &Resolution<'_>) -> Vec<String> {
    let what = if resolution.status.zero { "a hole of the file: zeros" } else { "data" };
    vec![format!("plain bytes: offset {:#x} of the file, {what}", resolution.offset)]
}

fn entries(depth: usize, explanation: &Explanation, resolution: &Resolution<'_>) -> Vec<String> {
    let mut lines =
        vec![format!("L1[{}] = {:#018x}", explanation.l1_index, explanation.l1_entry.bits())];
    lines.extend(explanation.l1_bits().iter().filter_map(group));
    match explanation.l2_entry {
        Some(entry) => {
            lines.push(format!("L2[{}] = {:#018x}", explanation.l2_index, entry.bits()));
            lines.extend(explanation.l2_bits().iter().filter_map(group));
        }
        None => lines.push(format!("L2[{}]: there is no L2 table", explanation.l2_index)),
    }
    match &explanation.cluster {
        Ok(cluster) => lines.push(format!("cluster: {cluster}")),
        Err(error) => lines.push(format!("cluster: damaged, {error}")),
    }
    if depth == resolution.status.depth && resolution.status.present {
        lines.push("this layer answers".into());
    } else {
        lines.push("this layer does not know: asks below".into());
    }
    lines
}

/// A group of bits; reserved ones only where they are set.
fn group(bits: &EntryBits) -> Option<String> {
    if bits.name == "reserved" && bits.value == 0 {
        return None;
    }
    let place = match bits.low == bits.high {
        true => format!("bit {}", bits.low),
        false => format!("bits {}-{}", bits.low, bits.high),
    };
    Some(format!("    {place:<11} {:<24} {:#x}", bits.name, bits.value))
}

fn read(resolution: &Resolution<'_>) -> String {
    let status = &resolution.status;
    if !status.present {
        return "no layer holds this offset: zeros".into();
    }
    let depth = status.depth;
    match (status.zero, status.compressed, status.host_offset) {
        (true, _, Some(host)) => format!("layer [{depth}] says zeros (reserved at {host:#x})"),
        (true, _, None) => format!("layer [{depth}] says zeros"),
        (false, true, _) => format!("layer [{depth}] decompresses a cluster"),
        (false, false, Some(host)) => format!("layer [{depth}] reads host offset {host:#x}"),
        (false, false, None) => format!("layer [{depth}] reads data"),
    }
}

fn write_text(resolution: &Resolution<'_>) -> String {
    let Some(top) = resolution.layers.first() else { return String::new() };
    let Some(explanation) = &top.explanation else {
        return format!("in place, at offset {:#x} of the file", resolution.offset);
    };
    match explanation.write {
        Some(WriteDecision::InPlace { .. }) => {
            let host = explanation.host_offset().map_or(0, HostOffset::get);
            format!("in place, at host offset {host:#x}: the cluster is normal and COPIED")
        }
        Some(WriteDecision::NewCluster(write)) => format!(
            "into {} ({}); the bytes around it come from {}",
            write.place.map_or("a new cluster".into(), |host| format!("host cluster {host}")),
            write.reason.explanation(),
            write.cow_end.source
        ),
        None => "refused: the entry is damaged".into(),
    }
}
