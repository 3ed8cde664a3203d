//! What was aimed at, and whether it was reached in this run.

use super::super::report::Row;
use super::inside::{Inside, Memory, Reads, median};
use super::programs;
use super::surgery::{self, Deed};

/// One thing that was aimed at.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) text: &'static str,
    pub(super) found: String,
    pub(super) met: bool,
}

/// A goal beside the number found; none where its row is missing.
fn goal(text: &'static str, found: Option<f64>, met: impl Fn(f64) -> bool) -> Option<Goal> {
    let found = found?;
    Some(Goal { text, found: format!("{found:.2}"), met: met(found) })
}

/// All goals whose rows were measured.
pub(super) fn all(inside: &Inside, rows: &[Row]) -> Vec<Goal> {
    let ratio = |row: Option<&Row>| row.map(Row::ratio);
    let deed = |deed| ratio(surgery::row(rows, deed));
    let goals = [
        goal("a warm read at depth 400 takes at most 1.2 of one at depth 1", deep(inside), |x| {
            x <= 1.2
        }),
        goal("reads at depth 100 are 20 times as fast, opening left out", reads(rows), |x| {
            x >= 20.0
        }),
        goal(
            "opening 400 layers and reading 4 KiB is faster",
            ratio(programs::open(rows, 400)),
            |x| x > 1.0,
        ),
        goal(
            "peak memory at depth 400, less the index, is below twice that of depth 1",
            memory(inside),
            |x| x < 2.0,
        ),
        goal("info of 100 layers is 5 times as fast", ratio(programs::info(rows, 100)), |x| {
            x >= 5.0
        }),
        goal("map of 100 layers is 8 times as fast", ratio(programs::map(rows, 100)), |x| x >= 8.0),
        goal("commit into a raw base is twice as fast", deed(Deed::CommitIntoRaw), |x| x >= 2.0),
        goal("commit into a qcow2 base is twice as fast", deed(Deed::CommitIntoQcow2), |x| {
            x >= 2.0
        }),
        goal("flattening in place is 1.3 times as fast", deed(Deed::Flatten), |x| x >= 1.3),
        goal("flattening into a new image is 1.3 times as fast", deed(Deed::Convert), |x| x >= 1.3),
        goal("rebase onto an equal base is as fast", deed(Deed::RebaseOntoEqual), |x| x >= 1.0),
        goal("rebase onto another base is as fast", deed(Deed::RebaseOntoOther), |x| x >= 1.0),
        goal("rebase takes less CPU", rebase_cpu(rows), |x| x < 1.0),
    ];
    goals.into_iter().flatten().collect()
}

/// Depth 400 as a multiple of depth 1: median of the ratios round by round, since noise that hits a
/// round hits both.
fn deep(inside: &Inside) -> Option<f64> {
    let at = |depth: u64| inside.reads.iter().find(|reads: &&Reads| reads.depth == depth);
    let (deep, flat) = (&at(400)?.index, &at(1)?.index);
    median(&deep.iter().zip(flat).map(|(deep, flat)| deep / flat).collect::<Vec<_>>())
}

/// Memory at depth 400 without the index, as a multiple of depth 1.
fn memory(inside: &Inside) -> Option<f64> {
    let at = |depth: u64| inside.memory.iter().find(|memory: &&Memory| memory.depth == depth);
    let deep = at(400)?;
    Some(deep.peak.saturating_sub(deep.index) as f64 / at(1)?.peak.max(1) as f64)
}

/// How many times faster one read of many is at depth 100, without what opening takes.
fn reads(rows: &[Row]) -> Option<f64> {
    let (one, many) = (programs::open(rows, 100)?, programs::reads(rows, 100)?);
    let reference = many.reference.time.saturating_sub(one.reference.time).as_secs_f64();
    let ours = many.ours.time.saturating_sub(one.ours.time).as_secs_f64();
    // Less than a nanosecond for each read is not to be believed.
    Some(reference / ours.max(programs::READS as f64 * 1e-9))
}

/// What the processors work for our two rebases, as a multiple of what they work for the real ones.
fn rebase_cpu(rows: &[Row]) -> Option<f64> {
    let rows = [Deed::RebaseOntoEqual, Deed::RebaseOntoOther].map(|deed| surgery::row(rows, deed));
    let sum = |of: fn(&Row) -> f64| Some(of(rows[0]?) + of(rows[1]?));
    let (ours, reference) =
        (sum(|row| row.ours.cpu.as_secs_f64())?, sum(|row| row.reference.cpu.as_secs_f64())?);
    Some(ours / reference.max(0.01))
}

/// One line per goal.
pub(super) fn table(goals: &[Goal]) -> String {
    let line = |goal: &Goal| {
        let judged = if goal.met { "met" } else { "missed" };
        format!("{judged:<6}  {:>8}  {}\n", goal.found, goal.text)
    };
    goals.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::super::super::run::Run;
    use super::*;

    #[test]
    fn goals_are_judged_by_what_was_found() {
        let reads = |depth, index: &[f64]| Reads { depth, index: index.to_vec(), walk: vec![] };
        let memory = |depth, peak, index| Memory { depth, peak, index };
        let inside = Inside {
            numbers: Value::Null,
            reads: vec![reads(1, &[1.0, 9.0, 1.0]), reads(400, &[1.5, 9.0, 1.7])],
            memory: vec![memory(1, 1000, 0), memory(400, 2500, 1000)],
        };
        let run = |millis| {
            let time = Duration::from_millis(millis);
            Run { time, cpu: time, memory: 0 }
        };
        let row = |case: &str, reference, ours| Row {
            case: case.to_owned(),
            reference: run(reference),
            ours: run(ours),
        };
        let rows = [
            row("open-100", 100, 10),
            row("open-and-read-5000x4k-100", 400, 20),
            row("info-backing-chain-100", 49, 10),
            row("rebase-onto-equal-base", 20, 10),
            row("rebase-onto-other-base", 20, 50),
        ];
        assert_eq!(
            table(&all(&inside, &rows)),
            "missed      1.50  a warm read at depth 400 takes at most 1.2 of one at depth 1\n\
             met        30.00  reads at depth 100 are 20 times as fast, opening left out\n\
             met         1.50  peak memory at depth 400, less the index, is below twice that of depth 1\n\
             missed      4.90  info of 100 layers is 5 times as fast\n\
             met         2.00  rebase onto an equal base is as fast\n\
             missed      0.40  rebase onto another base is as fast\n\
             missed      1.50  rebase takes less CPU\n"
        );
    }
}
