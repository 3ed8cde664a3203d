//! Shrinking: the shortest history that still fails, found by leaving things out.

use std::time::{Duration, Instant};

use super::history::History;
use super::run::attempt;

/// How long the search may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A history that still fails although nothing more can be left out, or time is up, and how it
/// fails. `failed_at` is the number of the turn in which `history` fails.
pub(crate) fn shrink(history: &History, failed_at: usize) -> Option<(History, String)> {
    let mut search = Search { until: Instant::now() + PATIENCE, found: None };
    let mut smallest = history.clone();
    smallest.turns.truncate(failed_at + 1);
    search.fails(&smallest);
    leave_out(&mut search, &mut smallest, |history| Some(&mut history.turns));
    for number in (0..smallest.turns.len()).rev() {
        leave_out(&mut search, &mut smallest, |history| history.turns[number].steps_mut());
    }
    search.found
}

struct Search {
    until: Instant,
    found: Option<(History, String)>,
}

impl Search {
    /// Whether the history fails; no longer once time is up.
    fn fails(&mut self, history: &History) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        let failure = attempt(history);
        if let Some(failure) = failure {
            self.found = Some((history.clone(), failure.text));
            return true;
        }
        false
    }
}

/// Leaves parts of a list out, large ones first, as long as the history fails without them.
fn leave_out<T>(
    search: &mut Search,
    history: &mut History,
    list: impl Fn(&mut History) -> Option<&mut Vec<T>>,
) {
    let len = |history: &mut History| list(history).map_or(0, |list| list.len());
    let mut part = len(history);
    while part > 0 {
        let mut at = 0;
        while at < len(history) {
            let mut shorter = history.clone();
            let end = (at + part).min(len(history));
            if let Some(list) = list(&mut shorter) {
                list.drain(at..end);
            }
            if search.fails(&shorter) {
                *history = shorter;
            } else {
                at = end;
            }
        }
        part /= 2;
    }
}
