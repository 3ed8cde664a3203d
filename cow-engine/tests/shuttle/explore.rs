//! How interleavings are chosen, and how many.

use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, Runner};

/// Schedules of each kind that are tried of a model of few steps when no time is named.
pub(crate) const MANY: usize = 4000;
/// The same of a model of many steps.
pub(crate) const SOME: usize = 500;
/// The same of a whole image.
pub(crate) const FEW: usize = 120;

/// Changes of priority that are tried in one schedule, besides those that threads ask for.
const CHANGES: [usize; 2] = [2, 5];

fn config(most: Option<Duration>) -> Config {
    let mut config = Config::new();
    config.stack_size = 512 << 10;
    config.silence_warnings = true;
    config.max_time = most;
    config
}

/// Runs `model` under random schedules and under schedules of few changes, which find what needs one
/// thread to be slow and another one fast. `QIMG_MODEL_SECONDS` says how long instead of how often.
pub(crate) fn explore(schedules: usize, model: fn()) {
    if let Ok(schedule) = std::env::var("QIMG_MODEL_SCHEDULE") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config(None)).run(model);
        return;
    }
    let seconds = std::env::var("QIMG_MODEL_SECONDS").ok();
    let seconds = seconds.map(|seconds| seconds.parse::<f64>().unwrap());
    let (count, most) = match seconds {
        Some(seconds) => {
            let share = Duration::from_secs_f64(seconds / (CHANGES.len() + 1) as f64);
            (usize::MAX, Some(share))
        }
        None => (schedules, None),
    };
    // The same schedules every time, unless there is time for new ones.
    let seed = if seconds.is_some() { std::process::id().into() } else { 0x5eed };
    let mut tried =
        Runner::new(RandomScheduler::new_from_seed(seed, count), config(most)).run(model);
    for changes in CHANGES {
        let scheduler = PctScheduler::new_from_seed(seed, changes, count);
        tried += Runner::new(scheduler, config(most)).run(model);
    }
    println!("{tried} schedules from seed {seed:#x}");
    assert!(tried > 0);
}
