//! `qimg bench`: how long many requests of one size take.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use qimg::chain::Chain;

use super::{one_file, refuse_objects};
use crate::args::aio::wants_ring;
use crate::args::cache::CacheMode;
use crate::args::number::{COUNT_MAX, in_range};
use crate::args::size;
use crate::args::source::SourceFlags;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::open::{How, open_for_verb};

/// The command line of `qimg bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: SourceFlags,
    /// Accepted for compatibility, without effect
    #[arg(short, long)]
    quiet: bool,
    /// Requests (default 75000)
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    count: Option<String>,
    /// Requests at the same time (default 64), each on a thread of its own
    #[arg(short, long, value_name = "N", allow_hyphen_values = true)]
    depth: Option<String>,
    /// Where the first request begins (default 0)
    #[arg(short, long, value_name = "OFFSET", allow_hyphen_values = true)]
    offset: Option<String>,
    /// Bytes per request (default 4096)
    #[arg(short = 's', long, value_name = "SIZE", allow_hyphen_values = true)]
    buffer_size: Option<String>,
    /// Bytes from one request to the next (default: those of a request)
    #[arg(short = 'S', long, value_name = "SIZE", allow_hyphen_values = true)]
    step_size: Option<String>,
    /// How requests reach the host: threads, native (both plain calls) or io_uring (if built with it)
    #[arg(short = 'i', long, value_name = "MODE", allow_hyphen_values = true)]
    aio: Option<String>,
    /// Short for -i native
    #[arg(short, long)]
    native: bool,
    /// Cache mode of the image
    #[arg(short = 't', long, value_name = "MODE", allow_hyphen_values = true)]
    cache: Option<String>,
    /// Write, which overwrites what the image holds
    #[arg(short, long)]
    write: bool,
    /// Byte to write (default 0)
    #[arg(long, value_name = "BYTE", allow_hyphen_values = true)]
    pattern: Option<String>,
    /// With -w: flush after so many requests
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    flush_interval: Option<String>,
    /// With --flush-interval: go on while the flush is under way
    #[arg(long)]
    no_drain: bool,
    /// A secret, for encrypted images, which are not opened yet
    #[arg(long, value_name = "OBJECT", allow_hyphen_values = true)]
    object: Vec<String>,
    /// Image file
    #[arg(value_name = "FILE")]
    files: Vec<OsString>,
}

/// Most threads, whatever the depth.
const THREADS_MAX: u64 = 256;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
struct Work {
    write: bool,
    pattern: u8,
    count: u64,
    depth: u64,
    offset: u64,
    buffer: u64,
    step: u64,
    /// 0 for no flushes.
    flush_interval: u64,
    drain: bool,
    /// The cache mode demands a flush after each write.
    flush_each: bool,
}

/// Runs the verb.
///
/// # Errors
/// Numbers out of range, an image that cannot be opened, a request that fails.
pub fn run(args: &Args) -> Outcome {
    let cache = match args.cache.as_deref().map(CacheMode::parse) {
        None => CacheMode::default(),
        Some(Some(mode)) => mode,
        Some(None) => return Err(Failure::new("Invalid cache mode")),
    };
    let work = work(args, cache)?;
    let ring = args.aio.as_deref().map(wants_ring).transpose().map_err(Failure::new)?;
    let file = one_file("bench", &args.files)?;
    check_intervals(&work)?;
    refuse_objects(&args.object)?;
    let image = args.source.image(file)?;
    if (args.native || args.aio.as_deref() == Some("native")) && !(cache.direct() || image.direct) {
        return Err(Failure::new(format!(
            "Could not open '{}': aio=native was specified, but it requires cache.direct=on, which \
             was not specified.",
            image.name
        )));
    }
    let reading = How::reading(args.source.force_share, args.source.probe_backing);
    let ring = ring.unwrap_or_default();
    let opened = open_for_verb(&image, &How { read_only: !work.write, cache, ring, ..reading })?;
    if let Some(warning) = opened.warning(&image.name) {
        std::io::stderr().write_all(warning.as_bytes())?;
    }
    let chain = opened.into_chain();
    std::io::stdout().write_all(work.announcement().as_bytes())?;
    let started = Instant::now();
    work.carry_out(&chain)?;
    let seconds = started.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "Run completed in {seconds:.3} seconds.")?;
    chain.close().map_err(|error| Failure::new(crate::open::explain(&error)))?;
    Ok(exit::SUCCESS)
}

fn work(args: &Args, cache: CacheMode) -> Result<Work, Failure> {
    let number = |text: &Option<String>, what, min, max, default| match text {
        Some(text) => in_range(text, what, min, max),
        None => Ok(default),
    };
    let count = number(&args.count, "request count", 1, COUNT_MAX, 75_000)?;
    let depth = number(&args.depth, "queue depth", 1, COUNT_MAX, 64)?;
    let offset = number(&args.offset, "offset", 0, size::MAX, 0)?;
    let buffer = number(&args.buffer_size, "buffer size", 1, COUNT_MAX, 4096)?;
    let step = number(&args.step_size, "step size", 0, COUNT_MAX, 0)?;
    let pattern = number(&args.pattern, "pattern byte", 0, 255, 0)?;
    let flush_interval = number(&args.flush_interval, "flush interval", 0, COUNT_MAX, 0)?;
    Ok(Work {
        write: args.write,
        pattern: u8::try_from(pattern).unwrap_or(u8::MAX),
        count,
        depth,
        offset,
        buffer,
        step: if step == 0 { buffer } else { step },
        flush_interval,
        drain: !args.no_drain,
        flush_each: cache.flush_each_write(),
    })
}

fn check_intervals(work: &Work) -> Result<(), Failure> {
    match work.flush_interval {
        0 => Ok(()),
        _ if !work.write => Err(Failure::new("--flush-interval is only available in write tests")),
        interval if interval < work.depth => {
            Err(Failure::new("Flush interval can't be smaller than depth"))
        }
        _ => Ok(()),
    }
}

impl Work {
    fn announcement(&self) -> String {
        let Self { count, buffer, depth, offset, step, flush_interval, .. } = *self;
        let verb = if self.write { "write" } else { "read" };
        let mut text = format!(
            "Sending {count} {verb} requests, {buffer} bytes each, {depth} in parallel (starting at \
             offset {offset}, step size {step})\n"
        );
        if flush_interval > 0 {
            text.push_str(&format!("Sending flush every {flush_interval} requests\n"));
        }
        text
    }

    /// Sends all requests. Those between two flushes run side by side; with draining, a flush waits
    /// for the ones before it.
    fn carry_out(&self, chain: &Chain) -> Result<(), Failure> {
        let batch = match self.flush_interval {
            interval if interval > 0 && self.drain => interval,
            _ => self.count,
        };
        let mut first = 0;
        while first < self.count {
            let end = first.saturating_add(batch).min(self.count);
            self.send(chain, first, end)?;
            if end - first == self.flush_interval && self.drain {
                flush(chain)?;
            }
            first = end;
        }
        Ok(())
    }

    /// Sends the requests from `first` to `end` on as many threads as there may be requests under way.
    fn send(&self, chain: &Chain, first: u64, end: u64) -> Result<(), Failure> {
        let next = AtomicU64::new(first);
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.depth.min(end - first).min(THREADS_MAX) {
                scope.spawn(|| {
                    let Err(failure) = self.serve(chain, &next, end) else { return };
                    next.store(end, Ordering::Relaxed); // the others stop, too
                    if let Ok(mut failed) = failed.lock() {
                        failed.get_or_insert(failure);
                    }
                });
            }
        });
        failed.into_inner().ok().flatten().map_or(Ok(()), Err)
    }

    fn serve(&self, chain: &Chain, next: &AtomicU64, end: u64) -> Result<(), Failure> {
        let mut buffer = vec![self.pattern; self.buffer as usize];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= end {
                return Ok(());
            }
            self.request(chain, self.place(index, chain.virtual_size()), &mut buffer)?;
            let is_due = self.flush_interval > 0 && (index + 1).is_multiple_of(self.flush_interval);
            if is_due && !self.drain {
                flush(chain)?;
            }
        }
    }

    fn request(&self, chain: &Chain, at: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let len = buffer.len() as u64;
        if at.checked_add(len).is_none_or(|end| end > chain.virtual_size()) {
            return Err(Failure::new("Failed request: Input/output error"));
        }
        let done = if self.write { chain.write_at(at, buffer) } else { chain.read_at(at, buffer) };
        done.map_err(|error| {
            Failure::new(format!("Failed request: {}", crate::open::cause(&error)))
        })?;
        if self.write && self.flush_each { flush(chain) } else { Ok(()) }
    }

    /// Where a request begins: steps that leave the disk come in again at its start.
    fn place(&self, index: u64, size: u64) -> u64 {
        if index == 0 || size == 0 {
            return self.offset;
        }
        let steps = u128::from(index) * u128::from(self.step) + u128::from(self.offset);
        (steps % u128::from(size)) as u64
    }
}

fn flush(chain: &Chain) -> Result<(), Failure> {
    chain
        .flush()
        .map_err(|error| Failure::new(format!("Failed flush: {}", crate::open::cause(&error))))
}
