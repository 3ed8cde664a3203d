//! What a bench says: a table of ratios for people, JSON for programs.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::run::{self, Run};
use crate::failure::{Failure, Outcome};

/// One case, measured with the reference and with ours.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) reference: Run,
    pub(super) ours: Run,
}

impl Row {
    /// How many times faster ours is.
    pub(super) fn ratio(&self) -> f64 {
        self.reference.time.as_secs_f64() / self.ours.time.as_secs_f64().max(1e-9)
    }
}

/// One line per case, the reference first.
pub(super) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.case.len()).max().unwrap_or(0).max("case".len());
    let mut text = format!(
        "{:<width$}  {:>10}  {:>10}  {:>8}  {:>15}  {:>10}\n",
        "case", "reference", "ours", "faster", "cpu", "memory"
    );
    for row in rows {
        text.push_str(&format!(
            "{:<width$}  {:>8.3} s  {:>8.3} s  {:>7.1}x  {:>5.2} / {:>5.2} s  {:>6} MiB\n",
            row.case,
            row.reference.time.as_secs_f64(),
            row.ours.time.as_secs_f64(),
            row.ratio(),
            row.reference.cpu.as_secs_f64(),
            row.ours.cpu.as_secs_f64(),
            row.ours.memory.div_ceil(1 << 20),
        ));
    }
    text
}

/// Writes the numbers beside the images of the benches and returns the file.
pub(super) fn write(bench: &str, rows: &[Row]) -> Outcome<PathBuf> {
    write_with(bench, rows, json!({}))
}

/// The same with more than rows: the members of an object are added.
pub(super) fn write_with(bench: &str, rows: &[Row], more: Value) -> Outcome<PathBuf> {
    let numbers = |run: &Run| {
        json!({
            "seconds": run.time.as_secs_f64(), "cpu": run.cpu.as_secs_f64(), "memory": run.memory,
        })
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case,
                "reference": numbers(&row.reference),
                "ours": numbers(&row.ours),
                "ratio": row.ratio(),
            })
        })
        .collect();
    let path = run::folder()?.join(format!("{bench}.json"));
    let mut all = json!({ "bench": bench, "rows": rows });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    let text = format!("{all:#}\n");
    std::fs::write(&path, text).map_err(Failure::at(&path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_table_has_ratios() {
        let time = Duration::from_secs;
        let run = |seconds, memory| Run { time: time(seconds), cpu: time(seconds) / 2, memory };
        let row = Row { case: "large".into(), reference: run(40, 0), ours: run(1, 5 << 20) };
        assert_eq!(
            table(&[row]),
            "case    reference        ours    faster              cpu      memory\n\
             large    40.000 s     1.000 s     40.0x  20.00 /  0.50 s       5 MiB\n"
        );
    }
}
