//! `bench chain`: chains of up to 400 overlays, and operations that move data through chains. What a
//! read costs at each depth and how much memory a chain takes is measured in process, by `bench/`;
//! opening, reading, `info`, `map`, commit, flatten and rebase by our programs beside the real ones, on
//! the same files in turns.

mod goals;
mod inside;
mod programs;
mod surgery;

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
    let mut rows = programs::measure(&folder.join("chain"))?;
    rows.extend(surgery::measure(&folder)?);
    let goals = goals::all(&inside, &rows);
    print!("{}\n{}\n{}", inside::table(&inside), report::table(&rows), goals::table(&goals));
    let judged = |goal: &Goal| json!({ "goal": goal.text, "found": goal.found, "met": goal.met });
    let goals: Vec<_> = goals.iter().map(judged).collect();
    report::write_with("chain", &rows, json!({ "inside": inside.numbers, "goals": goals }))
}
