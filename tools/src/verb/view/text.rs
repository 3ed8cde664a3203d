//! A chain in a terminal: the map in blocks, then the layers.

use std::fmt::Write;

use qimg::view::{Cell, LayerView, Share, View};

use super::escape::plain;
use super::facts::{self, Health};
use crate::report::bytes::human;

/// Cells of a row.
pub(super) const COLUMNS: u64 = 64;

/// What a cell shows.
const ZEROS: char = '\u{2591}';
const NOBODY: char = '\u{b7}';
const BLOCK: char = '\u{2588}';

/// Colours of 256 that can be told apart on dark and light; deeper layers begin again.
const COLOURS: [u8; 8] = [33, 208, 35, 134, 205, 178, 37, 160];

/// The whole answer.
pub(super) fn text(view: &View, colour: bool) -> String {
    let names: Vec<String> = facts::names(view).iter().map(|name| plain(name)).collect();
    let layers = if view.layers.len() == 1 { "layer" } else { "layers" };
    let mut text = format!(
        "disk of {}, {} {layers}; {} of it read as zeros\n\n",
        human(view.virtual_size),
        view.layers.len(),
        human(view.map.zero),
    );
    text.push_str(&map(view, colour));
    for (depth, (layer, name)) in view.layers.iter().zip(&names).enumerate() {
        text.push('\n');
        text.push_str(&describe(depth, layer, name, colour));
    }
    text
}

fn map(view: &View, colour: bool) -> String {
    let mut text = String::new();
    for (row, cells) in view.map.cells.chunks(COLUMNS as usize).enumerate() {
        let start = row as u64 * COLUMNS * view.map.cell_bytes;
        let _ = write!(text, "{:>10}  ", human(start));
        cells.iter().for_each(|cell| text.push_str(&sign(cell, view.map.cell_bytes, colour)));
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "\n{:>10}  each {}; {}, {ZEROS} zeros, {NOBODY} nobody's",
        "",
        human(view.map.cell_bytes),
        if colour { "colour of the layer" } else { "number of the layer (+ from 10 on)" },
    );
    text
}

/// Whoever owns most of the cell; data is worth more than zeros, anybody more than nobody.
fn sign(cell: &Cell, cell_bytes: u64, colour: bool) -> String {
    let data = cell.shares.iter().filter(|share| !share.zero);
    let most = |shares: Option<&Share>| shares.copied();
    let owner = most(data.max_by_key(|share| (share.bytes, usize::MAX - share.depth)))
        .or_else(|| cell.shares.first().copied().filter(|share| share.bytes * 2 > cell_bytes));
    match owner {
        None => NOBODY.to_string(),
        Some(Share { depth, zero: true, .. }) => painted(ZEROS, depth, colour),
        Some(Share { depth, .. }) if colour => painted(BLOCK, depth, colour),
        Some(Share { depth, .. }) => number(depth).to_string(),
    }
}

fn number(depth: usize) -> char {
    u32::try_from(depth).ok().and_then(|depth| char::from_digit(depth, 10)).unwrap_or('+')
}

fn painted(char: char, depth: usize, colour: bool) -> String {
    match colour {
        true => format!("\u{1b}[38;5;{}m{char}\u{1b}[0m", COLOURS[depth % COLOURS.len()]),
        false => char.to_string(),
    }
}

fn describe(depth: usize, layer: &LayerView, name: &str, colour: bool) -> String {
    let mark = painted(if colour { BLOCK } else { number(depth) }, depth, colour);
    let mut text = format!("{mark} [{depth}] {name}  ({})\n", facts::format(layer));
    let amounts = facts::amounts(layer);
    for facts in amounts.chunks(4) {
        let line: Vec<String> =
            facts.iter().map(|(what, how)| format!("{what} {how:<12}")).collect();
        let _ = writeln!(text, "    {}", line.join("  ").trim_end());
    }
    let (health, words) = facts::health(layer);
    let stress = match (health, colour) {
        (Health::Bad, true) => ("\u{1b}[1;31m", "\u{1b}[0m"),
        _ => ("", ""),
    };
    let _ = writeln!(text, "    {}{}{}", stress.0, plain(&words), stress.1);
    let (findings, more) = facts::findings(layer);
    findings.iter().for_each(|finding| {
        let _ = writeln!(text, "      {}", plain(finding));
    });
    if more > 0 {
        let _ = writeln!(text, "      and {more} more");
    }
    if let Some(qcow2) = &layer.info.qcow2 {
        for snapshot in &qcow2.snapshots {
            let _ =
                writeln!(text, "    snapshot {} '{}'", plain(&snapshot.id), plain(&snapshot.name));
        }
        for bitmap in &qcow2.bitmaps {
            let state = if bitmap.in_use { ", not saved cleanly" } else { "" };
            let size = human(bitmap.granularity);
            let _ =
                writeln!(text, "    bitmap '{}', {size} for each bit{state}", plain(&bitmap.name));
        }
        if let Some(below) = &qcow2.backing_name {
            let _ = writeln!(text, "    over '{}'", plain(below));
        }
    }
    text
}
