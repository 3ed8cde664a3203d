//! Chains: random reads by depth and peak memory, in process. Started by `cargo xtask bench chain`,
//! which measures the programs beside the real ones on the same files.

mod layers;
mod memory;
mod reads;

use std::path::PathBuf;

use serde_json::json;

use crate::failure::{Failure, Outcome};
pub(crate) use memory::child;

/// Overlays over the base, in the order of the report.
pub(crate) const DEPTHS: [usize; 4] = [1, 10, 100, 400];

/// `FOLDER JSON`: makes the chains that are missing, measures and writes the numbers.
pub(crate) fn run(words: &[String]) -> Outcome {
    let [folder, json] = words else { return Err(Failure::Usage) };
    let (folder, json) = (PathBuf::from(folder), PathBuf::from(json));
    layers::make(&folder)?;
    let depths: Vec<_> = reads::measure(&folder)?
        .into_iter()
        .map(|row| json!({ "depth": row.depth, "index": row.index, "walk": row.walk }))
        .collect();
    let memory = [DEPTHS[0], DEPTHS[3]].map(|depth| memory::measure(&folder, depth));
    let mut found = Vec::new();
    for memory in memory {
        let memory = memory?;
        let (depth, peak, index) = (memory.depth, memory.peak, memory.index);
        found.push(json!({ "depth": depth, "peak": peak, "index": index }));
    }
    let text = format!("{:#}\n", json!({ "reads": depths, "memory": found }));
    std::fs::write(&json, text).map_err(Failure::file(&json))
}
