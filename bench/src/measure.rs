//! Measuring a case: everybody in turns, round after round, on the same files in the same run.

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::contender::{Contender, Disk, Handle};
use crate::contenders::{CONTENDERS, bare, qemu};
use crate::failure::{Failure, Outcome};
use crate::media::{Media, Medium, SIZE};
use crate::work::{Direction, Work};

/// Queue depths that `qemu-img bench` is tried with: one request at a time, as one of our threads
/// does it, and its default, for which it uses all cores.
pub(crate) const QEMU_DEPTHS: [(&str, u32); 2] = [("qemu-img -d 1", 1), ("qemu-img -d 64", 64)];

/// Seconds per request of everybody, round by round; empty for who cannot do it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) threads: usize,
    /// In the order of the contenders, the real tool last.
    pub(crate) seconds: Vec<(&'static str, Vec<f64>)>,
    /// The same work by one thread, in the same rounds; not measured for every case.
    pub(crate) singles: Vec<(&'static str, Vec<f64>)>,
}

pub(crate) fn measure(case: &Case, media: &Media) -> Outcome<Row> {
    media.warm(case.medium)?;
    let mut row = Row {
        case: case.name.clone(),
        threads: case.work.threads,
        seconds: CONTENDERS.iter().map(|contender| (contender.name, Vec::new())).collect(),
        singles: Vec::new(),
    };
    if case.stays_open() {
        all_open(case, media, &mut row)?;
        return Ok(row);
    }
    let mut real = QEMU_DEPTHS.map(|(name, _)| (name, Vec::new()));
    for round in 0..case.rounds {
        for turn in 0..CONTENDERS.len() {
            // Nobody always comes after the same one.
            let index = (turn + round) % CONTENDERS.len();
            let contender = &CONTENDERS[index];
            match one(contender, case, media, seed(round, index)) {
                Ok(time) => row.seconds[index].1.extend(time),
                // Others may refuse, or be wrong: said aloud, and no figure.
                Err(failure) if contender.is_other => eprintln!("  {failure}"),
                Err(failure) => return Err(failure),
            }
        }
        for ((_, depth), (_, times)) in QEMU_DEPTHS.iter().zip(&mut real) {
            let file = media.file(case.medium, false)?;
            times.extend(qemu::bench(&file, &case.work, *depth)?);
        }
    }
    row.seconds.extend(real);
    Ok(row)
}

/// Nobody works where somebody else has just been: memory and disks remember.
fn seed(round: usize, contender: usize) -> u64 {
    (round * CONTENDERS.len() + contender) as u64
}

/// Many short rounds on handles that stay open: what disturbs one contender disturbs the next one
/// as well. With several threads each round is done by one thread, too.
fn all_open(case: &Case, media: &Media, row: &mut Row) -> Outcome {
    let work = &case.work;
    let single = Work { threads: 1, requests: work.requests / work.threads, ..*work };
    let mut open = Vec::new();
    for (index, contender) in CONTENDERS.iter().enumerate() {
        if case.medium.is_extended() && !contender.understands_extended_l2 {
            continue;
        }
        let file = media.file(case.medium, contender.bare)?;
        let handle = (contender.open)(&file, work.direction == Direction::Write)?;
        if work.threads > 1 && matches!(handle, Handle::Single(_)) {
            continue;
        }
        warm(handle.disk())?;
        if work.direction == Direction::Write {
            dirty(handle.disk())?;
        }
        open.push((index, handle));
    }
    row.singles = CONTENDERS.iter().map(|contender| (contender.name, Vec::new())).collect();
    for round in 0..case.rounds {
        open.rotate_left(1);
        for (index, handle) in &open {
            for (work, times) in [(work, &mut row.seconds), (&single, &mut row.singles)] {
                let offsets = work.offsets(SIZE, seed(round, *index));
                let requests = offsets.iter().map(Vec::len).sum::<usize>();
                let time = run(handle, work, &offsets)?;
                times[*index].1.extend(time.map(|time| time.as_secs_f64() / requests as f64));
                if work.threads == 1 {
                    break;
                }
            }
        }
    }
    open.into_iter().try_for_each(|(_, handle)| handle.close())
}

/// One round of one contender: seconds per request.
fn one(contender: &Contender, case: &Case, media: &Media, seed: u64) -> Outcome<Option<f64>> {
    if case.medium.is_extended() && !contender.understands_extended_l2 {
        return Ok(None);
    }
    let work = &case.work;
    let file = media.file(case.medium, contender.bare)?;
    let handle = match (contender.bare, case.medium) {
        (true, Medium::OverFull) => bare::open_over(&file, &media.raw)?,
        _ => (contender.open)(&file, work.direction == Direction::Write)?,
    };
    if case.medium.is_full() {
        warm(handle.disk())?;
    }
    let offsets = work.offsets(SIZE, seed);
    let Some(time) = run(&handle, work, &offsets)? else { return Ok(None) };
    if case.medium.is_full() {
        handle.close()?;
    } else {
        match contender.bare {
            true => handle.close()?,
            false => verify(contender, handle, &file, &offsets, seed < CONTENDERS.len() as u64)?,
        }
        std::fs::remove_file(&file).map_err(Failure::file(&file))?;
    }
    let requests = offsets.iter().map(Vec::len).sum::<usize>();
    Ok(Some(time.as_secs_f64() / requests as f64))
}

/// Tables are in memory, as in a guest that has run for a while.
fn warm(disk: &dyn Disk) -> Outcome {
    let mut buf = vec![0; 4096];
    (0..SIZE).step_by(64 << 10).try_for_each(|offset| disk.read(offset, &mut buf))
}

/// Writes everything once. The first write to a page that is clean takes longer than others, and
/// files that several contenders share would soon have none left.
fn dirty(disk: &dyn Disk) -> Outcome {
    let mut buf = vec![0; 1 << 20];
    (0..SIZE).step_by(buf.len()).try_for_each(|offset| {
        Media::fill(offset, &mut buf);
        disk.write(offset, &buf)
    })
}

/// Does the work on as many threads as asked; nothing if the contender cannot.
fn run(handle: &Handle, work: &Work, offsets: &[Vec<u64>]) -> Outcome<Option<Duration>> {
    if offsets.len() == 1 {
        let mut buf = Buffer::new(work.block);
        let start = Instant::now();
        thread(handle.disk(), work, &offsets[0], buf.bytes())?;
        return Ok(Some(start.elapsed()));
    }
    let Handle::Shared(disk) = handle else { return Ok(None) };
    let barrier = Barrier::new(offsets.len());
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = offsets
            .iter()
            .map(|offsets| {
                let (barrier, disk) = (&barrier, &**disk);
                scope.spawn(move || {
                    let mut buf = Buffer::new(work.block);
                    barrier.wait();
                    let start = Instant::now();
                    thread(disk, work, offsets, buf.bytes()).map(|()| (start, Instant::now()))
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Outcome<(Instant, Instant)>>| {
            thread.join().unwrap_or(Err(Failure::NoSuchCase))
        };
        threads.into_iter().map(join).collect::<Outcome<Vec<_>>>()
    })?;
    let start = times.iter().map(|(start, _)| *start).min();
    let end = times.iter().map(|(_, end)| *end).max();
    Ok(start.zip(end).map(|(start, end)| end - start))
}

fn thread(disk: &dyn Disk, work: &Work, offsets: &[u64], buf: &mut [u8]) -> Outcome {
    for (number, &offset) in offsets.iter().enumerate() {
        match work.direction {
            Direction::Read => disk.read(offset, buf)?,
            Direction::Write => {
                buf[..8].copy_from_slice(&stamp(offset));
                disk.write(offset, buf)?;
            }
        }
        if work.flush_every.is_some_and(|every| (number + 1) % every == 0) {
            disk.flush()?;
        }
    }
    Ok(())
}

fn stamp(offset: u64) -> [u8; 8] {
    (offset ^ 0x5afe_5afe_5afe_5afe).to_le_bytes()
}

/// Reads back what was written, and what lies around it, through the closed and opened image.
fn verify(
    contender: &Contender,
    handle: Handle,
    file: &Path,
    offsets: &[Vec<u64>],
    ask_the_real_tool: bool,
) -> Outcome {
    handle.close()?;
    let handle = (contender.open)(file, false)?;
    // The smallest read that everybody can do.
    let mut buf = [0; 512];
    for &offset in offsets.iter().flatten().step_by(7) {
        handle.disk().read(offset, &mut buf)?;
        if buf[..8] != stamp(offset) {
            let what = format!("{offset:#x} does not read as it was written");
            return Err(Failure::Wrong { name: contender.name, what });
        }
    }
    handle.close()?;
    if ask_the_real_tool && !qemu::check(file)? {
        let what = "the real tool finds the image damaged".to_owned();
        return Err(Failure::Wrong { name: contender.name, what });
    }
    Ok(())
}

/// A page-aligned buffer: what a guest's memory is like.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let memory = vec![0xa5; len + 4096];
        let start = memory.as_ptr().addr().wrapping_neg() % 4096;
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
