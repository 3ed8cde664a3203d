//! `crash`: power cuts over random histories, for as long as asked, or one history again.

use crate::environment;
use crate::failure::Outcome;
use crate::histories::Histories;

const HISTORIES: Histories = Histories {
    task: "crash",
    test: "crash",
    seconds: "QIMG_CRASH_SECONDS",
    seed: "QIMG_CRASH_SEED",
    // Ten times the states in the same time.
    release: true,
};

pub(crate) fn run(words: &[String]) -> Outcome {
    let request = HISTORIES.parse(words)?;
    environment::ensure()?;
    HISTORIES.run(&request)
}
