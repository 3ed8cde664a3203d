//! `fixtures`: the committed images, made again from their table.

use crate::failure::Outcome;

pub(crate) fn run(_words: &[String]) -> Outcome {
    Ok(())
}
