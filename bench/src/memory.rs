//! Memory per open image: how much a process grows when it opens many, and reads every cluster once.

use std::path::Path;
use std::process::Command;

use crate::contenders::CONTENDERS;
use crate::failure::{Failure, Outcome};
use crate::media::{Media, Medium, SIZE};

/// Images opened at once; the growth is shared out among them.
const IMAGES: usize = 32;

/// Bytes per image.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) name: &'static str,
    /// Opened, nothing read.
    pub(crate) open: u64,
    /// All tables seen.
    pub(crate) warm: u64,
}

/// Measures everybody, each in a process of its own.
pub(crate) fn measure(media: &Media) -> Outcome<Vec<Memory>> {
    let program = std::env::current_exe().map_err(|error| Failure::of("memory")(&error))?;
    let image = media.file(Medium::Full, false)?;
    let mut found = Vec::new();
    for contender in CONTENDERS.iter().filter(|contender| !contender.bare) {
        let output = Command::new(&program).args(["memory", contender.name]).arg(&image).output();
        let output = output.map_err(|error| Failure::of(contender.name)(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(open)), Some(Ok(warm))) = (numbers.next(), numbers.next()) else {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::of(contender.name)(&text));
        };
        found.push(Memory { name: contender.name, open, warm });
    }
    Ok(found)
}

/// The process that opens: prints both numbers.
pub(crate) fn child(words: &[String]) -> Outcome {
    let [name, image] = words else { return Err(Failure::Usage) };
    let contender = CONTENDERS.iter().find(|contender| contender.name == name);
    let contender = contender.ok_or(Failure::NoSuchCase)?;
    let before = resident()?;
    let mut handles = Vec::new();
    for _ in 0..IMAGES {
        handles.push((contender.open)(Path::new(image), false)?);
    }
    let open = resident()?;
    let mut buf = vec![0; 4096];
    for handle in &handles {
        for offset in (0..SIZE).step_by(64 << 10) {
            handle.disk().read(offset, &mut buf)?;
        }
    }
    let warm = resident()?;
    let share = |after: u64| after.saturating_sub(before) / IMAGES as u64;
    println!("{} {}", share(open), share(warm));
    Ok(())
}

/// Resident memory of this process, in bytes.
fn resident() -> Outcome<u64> {
    of_status("VmRSS:")
}

/// The most that this process has used so far, in bytes.
pub(crate) fn peak() -> Outcome<u64> {
    of_status("VmHWM:")
}

fn of_status(field: &str) -> Outcome<u64> {
    let path = Path::new("/proc/self/status");
    let text = std::fs::read_to_string(path).map_err(Failure::file(path))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}
