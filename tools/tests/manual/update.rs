//! Writes into a page what its commands print now, when asked to; somebody then looks at the difference.

use crate::page::Page;
use crate::run::Difference;
use crate::wildcard::{is_wild, same_line};

/// Set to `update`, it has pages rewritten.
pub(crate) const VARIABLE: &str = "QIMG_MANUAL";

/// The text of the page with the answers of today.
pub(crate) fn rewritten(page: &Page, differences: &[Difference<'_>]) -> String {
    let mut lines = page.lines.clone();
    for difference in differences.iter().rev() {
        let Some(command) = difference.command else { continue };
        let mut answer = merged(&command.output, &difference.answer.lines);
        match difference.answer.code {
            Some(0) => {}
            Some(code) => answer.push(format!("# exit {code}")),
            None => answer.push("# ended by a signal".to_owned()),
        }
        lines.splice(command.answer.clone(), answer);
    }
    lines.join("\n") + "\n"
}

/// What was printed; a line of the page that stands for more than itself stays where it still fits.
fn merged(shown: &[String], printed: &[String]) -> Vec<String> {
    let mut rest = shown.iter().filter(|line| is_wild(line) && line.trim() != "...");
    let lines = printed.iter().map(|line| {
        let mut ahead = rest.clone();
        match ahead.find(|shown| same_line(shown, line)) {
            Some(shown) => {
                rest = ahead;
                shown.clone()
            }
            None => line.trim_end().to_owned(),
        }
    });
    lines.collect()
}
