//! `qimg demo`: the main job on real data.
use crate::failure::{Failure, Outcome};
/// The command line of `qimg demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}
/// Runs the verb.
/// # Errors
/// Always, for now.
pub fn run(_: &Args) -> Outcome {
    Err(Failure::new("demo is not offered yet"))
}
