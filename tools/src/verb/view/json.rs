//! A chain for programs.

use qimg::info::Qcow2Info;
use qimg::view::{Cell, LayerView, View};
use serde_json::{Value, json};

use super::facts;

/// Everything; members may be added later, and are never renamed.
pub(super) fn json(view: &View) -> Value {
    json!({
        "virtual-size": view.virtual_size,
        "zero": view.map.zero,
        "unowned": view.map.unowned,
        "layers": view.layers.iter().enumerate().map(layer).collect::<Vec<_>>(),
        "cell-bytes": view.map.cell_bytes,
        "cells": view.map.cells.iter().map(cell).collect::<Vec<_>>(),
    })
}

fn cell(cell: &Cell) -> Value {
    let share = |share: &qimg::view::Share| json!({ "depth": share.depth, "zero": share.zero, "bytes": share.bytes });
    cell.shares.iter().map(share).collect()
}

fn layer((depth, layer): (usize, &LayerView)) -> Value {
    let info = &layer.info;
    let check = layer.check.as_ref().map(|check| match check {
        Err(error) => json!({ "error": error.to_string() }),
        Ok(report) => json!({
            "corruptions": report.corruptions,
            "leaks": report.leaks,
            "check-errors": report.check_errors,
            "allocated-clusters": report.allocated_clusters,
            "fragmented-clusters": report.fragmented_clusters,
            "compressed-clusters": report.compressed_clusters,
            "findings": facts::findings(layer).0,
        }),
    });
    json!({
        "depth": depth,
        "filename": info.path.to_string_lossy(),
        "format": info.format.name(),
        "virtual-size": info.virtual_size,
        "file-length": info.file_length,
        "actual-size": info.disk_size,
        "visible-data": layer.visible_data,
        "visible-zero": layer.visible_zero,
        "stored": layer.stored,
        "hidden": layer.hidden,
        "compressed": layer.compressed,
        "zero": layer.zero,
        "check": check,
        "header": info.qcow2.as_ref().map(header),
    })
}

fn header(qcow2: &Qcow2Info) -> Value {
    let snapshots = qcow2.snapshots.iter().map(|snapshot| {
        json!({
            "id": snapshot.id,
            "name": snapshot.name,
            "vm-state-size": snapshot.vm_state_bytes,
            "date-sec": snapshot.seconds,
        })
    });
    let bitmaps = qcow2.bitmaps.iter().map(|bitmap| {
        json!({ "name": bitmap.name, "granularity": bitmap.granularity, "in-use": bitmap.in_use })
    });
    json!({
        "version": qcow2.version,
        "cluster-size": qcow2.cluster_size,
        "refcount-bits": qcow2.refcount_bits,
        "lazy-refcounts": qcow2.lazy_refcounts,
        "extended-l2": qcow2.extended_l2,
        "dirty": qcow2.dirty,
        "corrupt": qcow2.corrupt,
        "backing-filename": qcow2.backing_name,
        "backing-filename-format": qcow2.backing_format,
        "data-file": qcow2.data_file,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "bitmaps": bitmaps.collect::<Vec<_>>(),
    })
}
