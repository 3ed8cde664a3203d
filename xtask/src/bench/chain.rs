//! `bench chain`: chains of up to 400 overlays. What a read costs at each depth and how much memory a
//! chain takes is measured in process, by `bench/`; opening, reading, `info` and `map` by our programs
//! beside the real ones, on the same files in turns.

mod goals;
mod inside;
mod programs;

use std::path::PathBuf;

use serde_json::json;

use super::{build_programs, report, run as runs};
use crate::failure::{Failure, Outcome};

use goals::Goal;

pub(super) fn run(words: &[String]) -> Outcome<PathBuf> {
    if let Some(argument) = words.first() {
        return Err(Failure::UnknownArgument { task: "bench chain", argument: argument.clone() });
    }
    build_programs()?;
    let folder = runs::folder()?;
    let inside = inside::measure(&folder)?;
    let rows = programs::measure(&folder.join("chain"))?;
    let goals = goals::all(&inside, &rows);
    print!("{}\n{}\n{}", inside::table(&inside), report::table(&rows), goals::table(&goals));
    let judged = |goal: &Goal| json!({ "goal": goal.text, "found": goal.found, "met": goal.met });
    let goals: Vec<_> = goals.iter().map(judged).collect();
    report::write_with("chain", &rows, json!({ "inside": inside.numbers, "goals": goals }))
}
