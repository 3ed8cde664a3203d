//! The map of the disk: an SVG in which every layer has its colour, and what the script needs.

use std::fmt::Write;

use qimg::view::{Cell, Share, View};
use serde_json::json;

use super::{COLUMNS, hue};
use crate::failure::Failure;
use crate::report::bytes::human;
use crate::verb::view::escape::{html, plain, script};
use crate::verb::view::facts::percent;

/// Width and height of a cell, and the gap between rows, in units of the drawing.
const CELL: u64 = 14;
const GAP: u64 = 4;
/// Width of the column of offsets on the left.
const MARGIN: u64 = 78;

/// A rectangle: parts of cells side by side that one layer owns.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    x: u64,
    y: f64,
    width: u64,
    height: f64,
    depth: usize,
    zero: bool,
}

/// The card with the map and its legend.
pub(super) fn card(view: &View, names: &[String]) -> String {
    let rows = (view.map.cells.len() as u64).div_ceil(COLUMNS).max(1);
    let (width, height) = (MARGIN + COLUMNS * CELL, rows * (CELL + GAP));
    let mut text = format!(
        "<section class=\"card\">\n<h2>Who owns what a guest sees</h2>\n\
         <p class=\"note\">Each field is {} of the disk, from left to right and from top to bottom. \
         Point at the map, or focus it and use the arrow keys.</p>\n\
         <svg id=\"map\" viewBox=\"0 0 {width} {height}\" tabindex=\"0\" role=\"img\" \
         aria-label=\"Map of the disk, each part in the colour of the layer that owns it\" \
         aria-describedby=\"detail\">\n\
         <defs><pattern id=\"grid\" x=\"{MARGIN}\" width=\"{CELL}\" height=\"{CELL}\" \
         patternUnits=\"userSpaceOnUse\"><path class=\"line\" d=\"M{CELL} 0V{CELL}\"/></pattern></defs>\n",
        human(view.map.cell_bytes),
    );
    for (row, cells) in view.map.cells.chunks(COLUMNS as usize).enumerate() {
        text.push_str(&draw_row(view, row as u64, cells));
    }
    let _ = write!(
        text,
        "<rect id=\"cursor\" width=\"{CELL}\" height=\"{CELL}\" visibility=\"hidden\"/>\n</svg>\n\
         <output id=\"detail\" for=\"map\">Nothing chosen</output>\n"
    );
    text.push_str(&legend(view, names));
    text.push_str("</section>\n");
    text
}

fn draw_row(view: &View, row: u64, cells: &[Cell]) -> String {
    let top = row * (CELL + GAP);
    let mut text = String::new();
    if row.is_multiple_of(4) {
        let start = human(row * COLUMNS * view.map.cell_bytes);
        let (x, y) = (MARGIN - 8, top + CELL - 3);
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\">{start}</text>");
    }
    let width = cells.len() as u64 * CELL;
    let _ = writeln!(
        text,
        "<rect class=\"nobody\" x=\"{MARGIN}\" y=\"{top}\" width=\"{width}\" height=\"{CELL}\"/>"
    );
    for piece in pieces(view.map.cell_bytes, top, cells) {
        let Piece { x, y, width, height, depth, zero } = piece;
        let class = if zero { "zero" } else { "data" };
        let hue = hue(depth);
        let _ = writeln!(
            text,
            "<rect class=\"{class}\" style=\"--h:{hue}\" x=\"{x}\" y=\"{y:.2}\" width=\"{width}\" \
             height=\"{height:.2}\"/>"
        );
    }
    let _ = writeln!(
        text,
        "<rect fill=\"url(#grid)\" x=\"{MARGIN}\" y=\"{top}\" width=\"{width}\" height=\"{CELL}\"/>"
    );
    text
}

/// Each cell is filled from above by its shares, in proportion; neighbours that look the same become
/// one.
#[expect(clippy::cast_precision_loss, reason = "two decimals of a pixel are drawn")]
fn pieces(cell_bytes: u64, top: u64, cells: &[Cell]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut before = 0..0;
    for (column, cell) in cells.iter().enumerate() {
        let x = MARGIN + column as u64 * CELL;
        let same = column > 0 && cells[column - 1] == *cell;
        if same {
            pieces[before.clone()].iter_mut().for_each(|piece| piece.width += CELL);
            continue;
        }
        let start = pieces.len();
        let mut above = 0;
        for &Share { depth, zero, bytes } in &cell.shares {
            let scale = |bytes: u64| bytes as f64 * CELL as f64 / cell_bytes as f64;
            let (y, height) = (top as f64 + scale(above), scale(bytes).max(0.5));
            pieces.push(Piece { x, y, width: CELL, height, depth, zero });
            above += bytes;
        }
        before = start..pieces.len();
    }
    pieces
}

fn legend(view: &View, names: &[String]) -> String {
    let mut text = String::from("<ul class=\"legend\">\n");
    for (depth, (layer, name)) in view.layers.iter().zip(names).enumerate() {
        let share = percent(layer.visible_data + layer.visible_zero, view.virtual_size);
        let _ = writeln!(
            text,
            "<li><a href=\"#layer-{depth}\"><i class=\"chip\" style=\"--h:{}\"></i>[{depth}] \
             {}</a> <span>{share:.1} %</span></li>",
            hue(depth),
            html(name),
        );
    }
    let share = percent(view.map.unowned, view.virtual_size);
    let _ = write!(
        text,
        "<li><i class=\"chip pale\"></i>paler: zeros that the layer says are there</li>\n\
         <li><i class=\"chip none\"></i>nobody's: zeros <span>{share:.1} %</span></li>\n</ul>\n"
    );
    text
}

/// What the script needs, as JSON that cannot end its element. Numbers are text: disks are larger than
/// the numbers of a browser.
pub(super) fn data(view: &View, names: &[String]) -> Result<String, Failure> {
    let share = |share: &Share| json!([share.depth, u8::from(share.zero), share.bytes.to_string()]);
    let cells = view.map.cells.iter().map(|cell| cell.shares.iter().map(share).collect());
    let cells: Vec<serde_json::Value> = cells.collect();
    let value = json!({
        "size": view.virtual_size.to_string(),
        "cell": view.map.cell_bytes.to_string(),
        "columns": COLUMNS,
        "side": CELL,
        "step": CELL + GAP,
        "margin": MARGIN,
        "names": names.iter().map(|name| plain(name)).collect::<Vec<_>>(),
        "cells": cells,
    });
    let text = serde_json::to_string(&value).map_err(|error| Failure::new(error.to_string()))?;
    Ok(script(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(shares: &[(usize, bool, u64)]) -> Cell {
        let share = |&(depth, zero, bytes)| Share { depth, zero, bytes };
        Cell { shares: shares.iter().map(share).collect() }
    }

    #[test]
    fn cells_that_look_the_same_are_one_rectangle() {
        let whole = cell(&[(1, false, 100)]);
        let mixed = cell(&[(0, false, 50), (1, true, 25)]);
        let cells = [whole.clone(), whole.clone(), mixed.clone(), mixed, cell(&[]), whole];
        let pieces = pieces(100, 0, &cells);
        let side = CELL as f64;
        let brief: Vec<_> = pieces
            .iter()
            .map(|piece| ((piece.x - MARGIN) / CELL, piece.width / CELL, piece.y, piece.height))
            .collect();
        assert_eq!(
            brief,
            [
                (0, 2, 0.0, side),
                (2, 2, 0.0, side / 2.0),
                (2, 2, side / 2.0, side / 4.0),
                (5, 1, 0.0, side)
            ]
        );
    }
}
