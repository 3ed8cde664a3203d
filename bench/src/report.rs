//! What was found: a table of ratios for people, JSON for programs.

use serde_json::json;

use crate::contenders::CONTENDERS;
use crate::measure::{QEMU_DEPTHS, Row};
use crate::memory::Memory;

/// The one whose speed is asked about.
const OURS: &str = "qimg";

/// The median; nothing for who did not take part.
fn median(seconds: &[f64]) -> Option<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Median of the ratios round by round: noise that hits a round hits both.
fn ratio(row: &Row, name: &str) -> Option<f64> {
    let times = |name: &str| row.seconds.iter().find(|(other, _)| *other == name);
    let (theirs, ours) = (&times(name)?.1, &times(OURS)?.1);
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
    median(&ratios)
}

/// How much faster two threads are than one: in the same rounds, or beside the row before.
fn speedup(rows: &[Row], row: &Row, name: &str) -> Option<f64> {
    let times = |times: &[(&'static str, Vec<f64>)]| {
        Some(times.iter().find(|(other, _)| *other == name)?.1.clone())
    };
    let single = row.case.strip_suffix(", 2 threads")?;
    let of_row = times(&row.seconds)?;
    if let Some(singles) = times(&row.singles) {
        let ratios: Vec<f64> = singles.iter().zip(&of_row).map(|(one, two)| one / two).collect();
        return median(&ratios);
    }
    let single = rows.iter().find(|other| other.case == single)?;
    Some(median(&times(&single.seconds)?)? / median(&of_row)?)
}

/// Microseconds per request of everybody, and how many times faster we are than each.
pub(crate) fn table(rows: &[Row], memory: &[Memory]) -> String {
    let mut text = String::new();
    let names: Vec<_> = CONTENDERS
        .iter()
        .map(|contender| contender.name)
        .chain(QEMU_DEPTHS.map(|(name, _)| name))
        .collect();
    if !rows.is_empty() {
        text.push_str("microseconds per request (times faster qimg is than this one)\n\n| case |");
        names.iter().for_each(|name| text.push_str(&format!(" {name} |")));
        text.push_str(" 2 threads / 1: bare | qimg | imago |\n| --- |");
        names.iter().for_each(|_| text.push_str(" ---: |"));
        text.push_str(" ---: | ---: | ---: |\n");
    }
    for row in rows {
        text.push_str(&format!("| {} |", row.case));
        for name in &names {
            let seconds = row.seconds.iter().find(|(other, _)| other == name);
            let time = seconds.and_then(|(_, seconds)| median(seconds));
            text.push_str(&match (time, ratio(row, name)) {
                (Some(time), _) if *name == OURS => format!(" **{:.2}** |", time * 1e6),
                (Some(time), Some(ratio)) => format!(" {:.2} ({ratio:.2}) |", time * 1e6),
                _ => " - |".to_owned(),
            });
        }
        for name in ["bare", OURS, "imago"] {
            text.push_str(&match speedup(rows, row, name) {
                Some(speedup) => format!(" {speedup:.2} |"),
                None => " |".to_owned(),
            });
        }
        text.push('\n');
    }
    if !memory.is_empty() {
        text.push_str("\n| memory per open image, KiB | opened | every cluster read once |\n| --- | ---: | ---: |\n");
    }
    for Memory { name, open, warm } in memory {
        text.push_str(&format!("| {name} | {} | {} |\n", open / 1024, warm / 1024));
    }
    text
}

/// All rounds, for whoever wants to look closer.
pub(crate) fn json(rows: &[Row], memory: &[Memory]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let seconds: serde_json::Map<_, _> = row
                .seconds
                .iter()
                .map(|(name, times)| ((*name).to_owned(), json!(times)))
                .collect();
            json!({ "case": row.case, "threads": row.threads, "seconds": seconds })
        })
        .collect();
    let memory: Vec<_> = memory
        .iter()
        .map(|memory| json!({ "name": memory.name, "open": memory.open, "warm": memory.warm }))
        .collect();
    format!("{:#}\n", json!({ "bench": "engine", "rows": rows, "memory": memory }))
}
