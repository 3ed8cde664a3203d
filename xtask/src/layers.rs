//! `layers`: the arrows between the crates, what each may use from outside, and how much
//! its users have to build. The tables mirror the design; a new arrow starts here.

mod arrows;
mod table;
mod tree;

use serde_json::Value;

use crate::command::{cargo, output_of};
use crate::failure::{Failure, Outcome};

pub(crate) fn run(words: &[String]) -> Outcome {
    crate::no_arguments("layers", words)?;
    let metadata = metadata()?;
    let mut findings = arrows::findings(&metadata, table::CRATES);
    for budget in table::BUDGETS {
        let args = ["tree", "-e", "normal,build", "--prefix", "none", "-p", budget.package];
        let listing = output_of(cargo().args(args))?;
        println!("{}: {} crates, at most {}", budget.package, tree::count(&listing), budget.crates);
        findings.extend(tree::over_budget(&listing, budget));
    }
    if findings.is_empty() {
        println!("publish order: {}", arrows::publish_order(&metadata, table::CRATES).join(", "));
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    let hint =
        "remove the arrow, or change the design and `xtask/src/layers/table.rs` in one commit";
    Err(Failure::Findings { task: "layers", count: findings.len(), hint })
}

/// Names of the packages that go to the registry.
pub(crate) fn published() -> impl Iterator<Item = &'static str> {
    table::CRATES.iter().filter(|row| row.published).map(|row| row.package)
}

fn metadata() -> Outcome<Value> {
    let args = ["metadata", "--format-version", "1", "--no-deps"];
    let text = output_of(cargo().args(args))?;
    serde_json::from_str(&text).map_err(|error| Failure::Unexpected {
        what: "output of cargo metadata",
        found: error.to_string(),
    })
}
