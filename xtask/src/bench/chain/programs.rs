//! Our programs beside the real ones on the chains that are there: one row each.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::super::report::Row;
use super::super::run::{self, Run};
use crate::failure::{Failure, Outcome};

/// Reads in one list; the first is of what the rows that only open read, too.
pub(super) const READS: u64 = 5000;

/// Bytes of the disk that hold data.
const DATA: u64 = 256 << 20;

/// What a row is about.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Open, read 4 KiB, and end.
    Open,
    /// Open and read 4 KiB anywhere, again and again.
    Reads,
    /// `info --backing-chain`.
    Info,
    /// `map --output=json`.
    Map,
}

/// A row of the table.
struct Case {
    work: Work,
    depth: u64,
    /// Runs of each program.
    times: usize,
}

const fn case(work: Work, depth: u64, times: usize) -> Case {
    Case { work, depth, times }
}

const CASES: &[Case] = &[
    case(Work::Open, 1, 15),
    case(Work::Open, 10, 15),
    case(Work::Open, 100, 11),
    case(Work::Open, 400, 7),
    case(Work::Reads, 1, 9),
    case(Work::Reads, 10, 9),
    case(Work::Reads, 100, 7),
    case(Work::Reads, 400, 3),
    case(Work::Info, 100, 15),
    case(Work::Map, 100, 9),
];

/// The name of a row.
fn name(work: Work, depth: u64) -> String {
    match work {
        Work::Open => format!("open-{depth}"),
        Work::Reads => format!("open-and-read-{READS}x4k-{depth}"),
        Work::Info => format!("info-backing-chain-{depth}"),
        Work::Map => format!("map-json-{depth}"),
    }
}

/// The row of opening a chain of this depth.
pub(super) fn open(rows: &[Row], depth: u64) -> Option<&Row> {
    find(rows, Work::Open, depth)
}

/// The row of opening and reading.
pub(super) fn reads(rows: &[Row], depth: u64) -> Option<&Row> {
    find(rows, Work::Reads, depth)
}

/// The row of `info`.
pub(super) fn info(rows: &[Row], depth: u64) -> Option<&Row> {
    find(rows, Work::Info, depth)
}

/// The row of `map`.
pub(super) fn map(rows: &[Row], depth: u64) -> Option<&Row> {
    find(rows, Work::Map, depth)
}

fn find(rows: &[Row], work: Work, depth: u64) -> Option<&Row> {
    let name = name(work, depth);
    rows.iter().find(|row| row.case == name)
}

/// All rows, on the chains in `folder`.
pub(super) fn measure(folder: &Path) -> Outcome<Vec<Row>> {
    let lists = [folder.join("one"), folder.join("many")];
    for (list, count) in lists.iter().zip([1, READS]) {
        std::fs::write(list, commands(count)).map_err(Failure::at(list))?;
    }
    let [ours, ours_io] = [run::ours("qimg")?, run::ours("qimg-io")?];
    let mut rows = Vec::new();
    for &Case { work, depth, times } in CASES {
        let case = name(work, depth);
        eprintln!("{case}: {times} runs of each");
        let image = folder.join(format!("{depth}.qcow2"));
        let (reference, ours) = match work {
            Work::Open | Work::Reads => {
                let list = &lists[usize::from(matches!(work, Work::Reads))];
                let one = |program: &Path| read(program, &image, list);
                run::in_turns(times, || one(Path::new("qemu-io")), || one(&ours_io))?
            }
            Work::Info | Work::Map => {
                let one = |program: &Path| run::measure(&mut verb(program, work, &image));
                run::in_turns(times, || one(Path::new("qemu-img")), || one(&ours))?
            }
        };
        rows.push(Row { case, reference, ours });
    }
    Ok(rows)
}

fn read(program: &Path, image: &Path, list: &Path) -> Outcome<Run> {
    let mut command = Command::new(program);
    command.args(["-r", "-f", "qcow2"]).arg(image);
    run::measure_reading(&mut command, list)
}

fn verb(program: &Path, work: Work, image: &Path) -> Command {
    let mut command = Command::new(program);
    match work {
        Work::Map => command.args(["map", "-f", "qcow2", "--output=json"]),
        _ => command.args(["info", "-f", "qcow2", "--backing-chain"]),
    };
    command.arg(image);
    command
}

/// What `qemu-io` reads from its standard input: reads of 4 KiB anywhere, the same in every run.
fn commands(count: u64) -> String {
    let mut text = String::new();
    let mut state = 1_u64;
    for _ in 0..count {
        let offset = state % (DATA / 4096) * 4096;
        // Writing to a string does not fail.
        let _ = writeln!(text, "read -q {offset} 4096");
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
                >> 16;
    }
    text.push_str("quit\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_scattered_over_the_data() {
        let text = commands(READS);
        let mut offsets: Vec<u64> =
            text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok()).collect();
        assert!(offsets.len() as u64 == READS && offsets.iter().all(|&offset| offset < DATA));
        offsets.sort_unstable();
        offsets.dedup();
        assert!(offsets.len() as u64 > READS * 9 / 10, "{} different", offsets.len());
        assert!(text.ends_with("quit\n"));
    }
}
