//! A layer on the page: a bar of what it keeps, facts, and what can be unfolded.

use std::fmt::Write;

use qimg::info::Qcow2Info;
use qimg::view::LayerView;

use super::hue;
use crate::report::bytes::human;
use crate::verb::view::escape::html;
use crate::verb::view::facts::{self, Fact, Health, percent};

/// Rows of a table that are shown; an image can have 65536 snapshots.
const ROWS_MAX: usize = 100;

/// The card.
pub(super) fn card(depth: usize, layer: &LayerView, name: &str) -> String {
    let (health, words) = facts::health(layer);
    let health = match health {
        Health::Good => "good",
        Health::Middling => "middling",
        Health::Bad => "bad",
        Health::Unknown => "unknown",
    };
    let path = layer.info.path.to_string_lossy();
    let mut text = format!(
        "<section class=\"card layer\" id=\"layer-{depth}\" style=\"--h:{}\">\n<div class=\"title\">\
         <h3 title=\"{}\"><i class=\"chip\"></i>[{depth}] {}</h3><span class=\"badge\">{}</span>\
         <span class=\"badge {health}\">{}</span></div>\n",
        hue(depth),
        html(&path),
        html(name),
        html(&facts::format(layer)),
        html(&words),
    );
    text.push_str(&bar(layer));
    text.push_str(&list("facts", &facts::amounts(layer)));
    if let Some(qcow2) = &layer.info.qcow2 {
        let _ = write!(
            text,
            "<details><summary>Header</summary>\n{}</details>\n",
            list("header", &facts::header(qcow2))
        );
        text.push_str(&snapshots(qcow2));
        text.push_str(&bitmaps(qcow2));
    }
    text.push_str(&findings(layer));
    text.push_str("</section>\n");
    if let Some(below) = layer.info.qcow2.as_ref().and_then(|qcow2| qcow2.backing_name.as_ref()) {
        let _ = writeln!(
            text,
            "<p class=\"arrow\"><span aria-hidden=\"true\">&#8595;</span> what it does not own comes \
             from <b>{}</b></p>",
            html(below)
        );
    }
    text
}

/// The disk of the layer from end to end: what is seen, what is hidden, what it says are zeros.
fn bar(layer: &LayerView) -> String {
    let size = layer.info.virtual_size.max(1);
    // What is stored and neither seen as data nor hidden lies in holes of the file.
    let holes = layer.stored.saturating_sub(layer.visible_data.saturating_add(layer.hidden));
    let parts = [
        ("seen", layer.visible_data, "data that a guest sees"),
        ("under", layer.hidden, "hidden"),
        ("zeros", layer.zero.saturating_add(holes), "zeros"),
    ];
    let mut text = String::from("<div class=\"bar\">");
    for (class, bytes, words) in parts.into_iter().filter(|(_, bytes, _)| *bytes > 0) {
        let _ = write!(
            text,
            "<i class=\"{class}\" style=\"width:{:.3}%\" title=\"{words}: {}\"></i>",
            percent(bytes, size),
            human(bytes)
        );
    }
    text.push_str("</div>\n");
    text
}

fn list(class: &str, facts: &[Fact]) -> String {
    let mut text = format!("<dl class=\"{class}\">\n");
    for (what, how) in facts {
        let _ = writeln!(text, "<div><dt>{what}</dt><dd>{}</dd></div>", html(how));
    }
    text.push_str("</dl>\n");
    text
}

fn snapshots(qcow2: &Qcow2Info) -> String {
    let rows = qcow2.snapshots.iter().map(|snapshot| {
        [snapshot.id.clone(), snapshot.name.clone(), human(snapshot.vm_state_bytes)]
    });
    table("Internal snapshots", ["id", "name", "VM state"], rows)
}

fn bitmaps(qcow2: &Qcow2Info) -> String {
    let rows = qcow2.bitmaps.iter().map(|bitmap| {
        let state = if bitmap.in_use { "not saved cleanly" } else { "saved" };
        [bitmap.name.clone(), human(bitmap.granularity), state.to_owned()]
    });
    table("Persistent bitmaps", ["name", "each bit", "state"], rows)
}

fn table(
    title: &str,
    heads: [&str; 3],
    rows: impl ExactSizeIterator<Item = [String; 3]>,
) -> String {
    let count = rows.len();
    if count == 0 {
        return String::new();
    }
    let line = |tag: &str, cells: &[String; 3]| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", html(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let mut text = format!("<details><summary>{title} ({count})</summary>\n<table>\n");
    text.push_str(&line("th", &heads.map(str::to_owned)));
    rows.take(ROWS_MAX).for_each(|row| text.push_str(&line("td", &row)));
    text.push_str("</table>\n");
    if count > ROWS_MAX {
        let _ = writeln!(text, "<p class=\"note\">and {} more</p>", count - ROWS_MAX);
    }
    text.push_str("</details>\n");
    text
}

fn findings(layer: &LayerView) -> String {
    let (findings, more) = facts::findings(layer);
    if findings.is_empty() {
        return String::new();
    }
    let mut text =
        String::from("<details open><summary>Findings</summary>\n<ul class=\"lines\">\n");
    for finding in findings {
        let _ = writeln!(text, "<li>{}</li>", html(&finding));
    }
    if more > 0 {
        let _ = writeln!(text, "<li>and {more} more</li>");
    }
    text.push_str("</ul></details>\n");
    text
}
