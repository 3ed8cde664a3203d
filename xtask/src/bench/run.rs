//! One measured run of a program: time, and the most memory it used.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::command;
use crate::failure::{Failure, Outcome};

/// How often memory is looked at. The kernel keeps the peak itself; only the last moments of a
/// program can be missed.
const POLL: Duration = Duration::from_millis(2);

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) time: Duration,
    /// What the processors worked for it, to the hundredth of a second.
    pub(super) cpu: Duration,
    /// Peak of resident memory, in bytes; 0 where the program was gone before anybody looked.
    pub(super) memory: u64,
}

/// One of our own programs in the optimised build.
pub(super) fn ours(name: &str) -> Outcome<PathBuf> {
    // target/<profile>/xtask
    let profile = command::build_folder()?;
    Ok(profile.parent().unwrap_or(&profile).join("release").join(name))
}

/// Where benches put their images: beside the build, on a disk rather than in memory.
pub(super) fn folder() -> Outcome<PathBuf> {
    let profile = command::build_folder()?;
    let folder = profile.parent().unwrap_or(&profile).join("bench");
    std::fs::create_dir_all(&folder).map_err(Failure::at(&folder))?;
    Ok(folder)
}

/// Runs to the end. What earlier runs left to be written is written before.
pub(super) fn measure(command: &mut Command) -> Outcome<Run> {
    measure_with(command, Stdio::null())
}

/// Runs to the end with a file as standard input.
pub(super) fn measure_reading(command: &mut Command, input: &Path) -> Outcome<Run> {
    let file = File::open(input).map_err(Failure::at(input))?;
    measure_with(command, file.into())
}

fn measure_with(command: &mut Command, input: Stdio) -> Outcome<Run> {
    command::run(&mut Command::new("sync"))?;
    command.stdin(input).stdout(Stdio::null());
    let line = command::line_of(command);
    let not_started = |source| Failure::Start { program: line.clone(), source };
    let start = Instant::now();
    let mut child = command.spawn().map_err(not_started)?;
    let status_file = format!("/proc/{}/status", child.id());
    let over = AtomicBool::new(false);
    let before = children_cpu();
    // Whoever waits for the end looks at nothing else: some programs take less than a look.
    let (status, time, memory) = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut memory = 0;
            while !over.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&status_file).unwrap_or_default();
                memory = memory.max(peak(&text));
                std::thread::sleep(POLL);
            }
            memory
        });
        let status = child.wait();
        let time = start.elapsed();
        over.store(true, Ordering::Relaxed);
        (status, time, looker.join().unwrap_or(0))
    });
    let status = status.map_err(not_started)?;
    match status.success() {
        true => Ok(Run { time, cpu: children_cpu().saturating_sub(before), memory }),
        false => Err(Failure::Command { line, code: status.code() }),
    }
}

/// What the processors worked for all children that have ended.
fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold blanks.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // Fields 16 and 17 of the whole line, in ticks of a hundredth of a second.
    let ticks: u64 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The peak of resident memory in the text of `/proc/PID/status`.
fn peak(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Measures two commands in turns, `times` each, and returns the run of the median time of both.
pub(super) fn in_turns(
    times: usize,
    mut first: impl FnMut() -> Outcome<Run>,
    mut second: impl FnMut() -> Outcome<Run>,
) -> Outcome<(Run, Run)> {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..times.max(1) {
        firsts.push(first()?);
        seconds.push(second()?);
    }
    Ok((median(firsts), median(seconds)))
}

/// The run in the middle; runs are never empty.
fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.time);
    runs[runs.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_measured() {
        let run = measure(Command::new("sleep").arg("0.05")).unwrap();
        assert!(run.time >= Duration::from_millis(50) && run.memory > 0, "{run:?}");
        assert!(measure(&mut Command::new("false")).is_err());
        assert_eq!(peak("Name:\tx\nVmHWM:\t    1234 kB\n"), 1234 * 1024);
    }

    #[test]
    fn the_median_is_reported() {
        let mut times = [3, 1, 2].map(Duration::from_secs).into_iter();
        let mut next = || Ok(Run { time: times.next().unwrap(), cpu: Duration::ZERO, memory: 0 });
        let fixed = || Ok(Run { time: Duration::from_secs(9), cpu: Duration::ZERO, memory: 7 });
        let (first, second) = in_turns(3, &mut next, fixed).unwrap();
        assert_eq!((first.time.as_secs(), second.time.as_secs(), second.memory), (2, 9, 7));
    }
}
