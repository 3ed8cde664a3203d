//! An image driven by an I/O loop of one's own: one thread, one io_uring, many guest requests under
//! way at once. The engine decides, the loop does, the engine publishes.
//!
//! ```text
//! cargo run --release -p cow-engine --features io-uring --example own_io_loop
//! ```
//!
//! Makes a raw base and an overlay on it in a folder of its own, sends random reads, writes, zeroing,
//! discards and flushes through the loop, compares every byte that is read, then reads the whole disk
//! once more with the engine's own calls and lets `qemu-img check` have a look, if there is one. Where
//! the host forbids io_uring it says so, and the same loop calls `pread` and `pwrite`.
//!
//! Start reading at `io_loop.rs`.

mod disk;
mod guest;
mod io_loop;
mod lanes;
pub(crate) mod options;
mod waiting_calls;

use std::time::Instant;

use cow_engine::Image;

use self::disk::{Disk, QemuCheck};
use self::guest::{Guest, one_by_one};
use self::io_loop::{Counts, IoLoop};
use self::lanes::Lanes;
use self::options::Options;
use self::waiting_calls::WaitingCalls;

/// Whatever goes wrong ends the example.
pub(crate) type Failure = Box<dyn core::error::Error>;

/// What happened.
#[derive(Debug)]
pub(crate) struct Report {
    /// Why there is no ring, if there is none.
    pub(crate) no_ring: Option<String>,
    /// Guest requests per second through the loop, and by calls of the engine one by one.
    pub(crate) per_second: (f64, f64),
    /// What the loop did.
    pub(crate) counts: Counts,
    /// What the real tool says about the image.
    pub(crate) qemu: QemuCheck,
}

#[cfg_attr(test, expect(dead_code, reason = "the test calls `run`"))]
fn main() -> Result<(), Failure> {
    let Some(options) = Options::from_arguments(std::env::args().skip(1))? else {
        println!("{}", options::HELP);
        return Ok(());
    };
    let report = run(&options)?;
    if let Some(why) = &report.no_ring {
        println!("{why}; the same loop goes on with pread and pwrite");
    }
    let (looped, plain) = report.per_second;
    println!(
        "{} guest requests, up to {} under way: {}",
        options.requests, options.depth, report.counts
    );
    println!("  this loop                 {looped:>9.0} requests/s");
    println!("  the engine's calls        {plain:>9.0} requests/s (one thread, one by one)");
    println!("every byte that was read was right; qemu-img check: {}", report.qemu);
    Ok(())
}

/// Runs everything and compares everything.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let disk = Disk::make(&options.folder, "loop", options.direct)?;
    let mut guest = Guest::new(&disk, options.seed);
    let (lanes, no_ring) = Lanes::new(options.depth, options.no_ring, disk.file())?;
    let image = disk.open()?;
    let start = Instant::now();
    let counts = drive(&image, lanes, &mut guest, options)?;
    let looped = options.requests as f64 / start.elapsed().as_secs_f64();
    guest.compare_all(&image)?;
    image.close()?;
    // And what it left on disk.
    let image = disk.open()?;
    guest.compare_all(&image)?;
    image.close()?;
    let qemu = disk.qemu_check()?;

    let plain = Disk::make(&options.folder, "plain", options.direct)?;
    let image = plain.open()?;
    let mut guest = Guest::new(&plain, options.seed);
    let start = Instant::now();
    one_by_one(&image, &mut guest, options.requests)?;
    let called = options.requests as f64 / start.elapsed().as_secs_f64();
    image.close()?;
    Ok(Report { no_ring, per_second: (looped, called), counts, qemu })
}

/// Keeps `depth` guest requests under way until there were enough.
fn drive(
    image: &Image,
    lanes: Lanes,
    guest: &mut Guest,
    options: &Options,
) -> Result<Counts, Failure> {
    // Calls of the engine that may wait for writes of this very loop have a thread of their own.
    std::thread::scope(|scope| {
        let calls = WaitingCalls::start(scope, image, lanes.bell());
        let mut io_loop = IoLoop::new(image, lanes, calls);
        let mut issued = 0;
        loop {
            while issued < options.requests
                && io_loop.under_way() < options.depth as usize
                && let Some(request) = guest.next_request()
            {
                io_loop.begin(request)?;
                issued += 1;
            }
            let Some(done) = io_loop.next_done()? else { break };
            guest.complete(done)?;
        }
        Ok(io_loop.counts())
    })
}
