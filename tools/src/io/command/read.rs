//! `read`, `readv` and `aio_read`.

use std::time::Instant;

use super::{Command, Invocation, Problem};
use crate::io::getopt::Parsed;
use crate::io::session::Session;
use crate::io::statistics::Request;
use crate::io::{dump, number, pattern};

/// `read`
pub const READ: Command = Command {
    name: "read",
    short: "r",
    fewest: 2,
    most: None,
    arguments: "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
    summary: "reads a number of bytes at a specified offset",
    details: READ_DETAILS,
    needs_image: true,
    run: read,
};

/// `readv`
pub const READV: Command = Command {
    name: "readv",
    short: "readv",
    fewest: 2,
    most: None,
    arguments: "[-Cqrv] [-P pattern] off len [len..]",
    summary: "reads a number of bytes at a specified offset",
    details: VECTORED_DETAILS,
    needs_image: true,
    run: read_vectored,
};

/// `aio_read`
pub const AIO_READ: Command = Command {
    name: "aio_read",
    short: "aio_read",
    fewest: 2,
    most: None,
    arguments: "[-Ciqrv] [-P pattern] off len [len..]",
    summary: "asynchronously reads a number of bytes",
    details: VECTORED_DETAILS,
    needs_image: true,
    run: read_asynchronously,
};

const READ_DETAILS: &str = " \
 -C  statistics as one line of comma-separated values
 -l  with -P: how many bytes to verify
 -P  verify that every byte read is this one
 -q  no statistics
 -s  with -P: where to start verifying, relative to off
 -v  dump what was read
 -a, -p and -r are accepted and have no effect; -b reads the state of a virtual machine
";

const VECTORED_DETAILS: &str = " \
 Several lengths are read one after the other as one request.
 -C  statistics as one line of comma-separated values
 -P  verify that every byte read is this one
 -q  no statistics
 -v  dump what was read
 -r is accepted and has no effect
";

/// Which bytes `-P` verifies.
#[derive(Clone, Copy)]
struct Verify {
    byte: u8,
    start: u64,
    len: u64,
}

/// A read, ready to be made.
struct Job {
    offset: u64,
    len: u64,
    verify: Option<Verify>,
    dump: bool,
    quiet: bool,
    terse: bool,
    operations: u32,
    /// Behind the disk, where the state of a virtual machine is kept.
    vm_state: bool,
}

fn read(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let parsed = invocation.parse("abCl:pP:qrs:v")?;
    let [offset, len] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    let offset = number::parse(offset).map_err(Problem::Told)?;
    let len = number::parse_length(len, "").map_err(Problem::Told)?;
    if !parsed.has('P') && (parsed.has('s') || parsed.has('l')) {
        return Err(Problem::Usage);
    }
    if parsed.has('b') {
        check_sectors(offset, len)?;
    }
    let verify = verification(&parsed, len)?;
    execute(session, "read", &Job { verify, ..job(&parsed, offset, len)? })
}

/// The state of a virtual machine is read and written by sectors.
///
/// # Errors
/// The message to print.
pub(super) fn check_sectors(offset: u64, len: u64) -> Result<(), Problem> {
    let wrong = [("offset", offset), ("count", len)];
    match wrong.into_iter().find(|(_, number)| !number.is_multiple_of(512)) {
        None => Ok(()),
        Some((what, number)) => {
            Err(Problem::Told(format!("{number} is not a sector-aligned value for '{what}'")))
        }
    }
}

fn verification(parsed: &Parsed, len: u64) -> Result<Option<Verify>, Problem> {
    let Some(byte) = parsed.value('P') else { return Ok(None) };
    let byte = pattern::parse(byte).map_err(Problem::Told)?;
    let number = |flag| parsed.value(flag).map(number::parse).transpose().map_err(Problem::Told);
    let start = number('s')?.unwrap_or(0);
    let count = number('l')?.unwrap_or(len.saturating_sub(start));
    if start.checked_add(count).is_none_or(|end| end > len) {
        return Err(Problem::Told("pattern verification range exceeds end of read data".into()));
    }
    Ok(Some(Verify { byte, start, len: count }))
}

fn job(parsed: &Parsed, offset: u64, len: u64) -> Result<Job, Problem> {
    let verify = verification(parsed, len)?;
    Ok(Job {
        offset,
        len,
        verify,
        dump: parsed.has('v'),
        quiet: parsed.has('q'),
        terse: parsed.has('C'),
        operations: 1,
        vm_state: parsed.has('b'),
    })
}

fn vectored_job(invocation: &Invocation<'_>, flags: &str) -> Result<Job, Problem> {
    let parsed = invocation.parse(flags)?;
    let [offset, lengths @ ..] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    if lengths.is_empty() {
        return Err(Problem::Usage);
    }
    let offset = number::parse(offset).map_err(Problem::Told)?;
    let len = number::parse_lengths(lengths).map_err(Problem::Told)?;
    job(&parsed, offset, len)
}

fn read_vectored(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    execute(session, "readv", &vectored_job(invocation, "CP:qrv")?)
}

/// As in qemu-io, a request that was sent counts as success whatever becomes of it.
fn read_asynchronously(
    session: &mut Session<'_>,
    invocation: &Invocation<'_>,
) -> Result<(), Problem> {
    let job = vectored_job(invocation, "CiP:qrv")?;
    match execute(session, "readv", &job) {
        Err(Problem::Told(message)) => Ok(session.print(&format!("{message}\n"))?),
        Err(Problem::Silent) => Ok(()),
        other => other,
    }
}

fn execute(session: &mut Session<'_>, name: &str, job: &Job) -> Result<(), Problem> {
    let started = Instant::now();
    let bytes = fetch(session, name, job)?;
    let elapsed = started.elapsed();
    let matches = match &job.verify {
        Some(verify) => check(session, job.offset, &bytes, verify)?,
        None => true,
    };
    if !job.quiet && job.dump {
        session.print(&dump::render(job.offset, &bytes))?;
    }
    if !job.quiet {
        let Job { offset, operations, terse, .. } = *job;
        let request = Request { verb: "read", offset, bytes: job.len, operations, elapsed, terse };
        session.print(&request.render())?;
    }
    if matches { Ok(()) } else { Err(Problem::Silent) }
}

fn fetch(session: &mut Session<'_>, name: &str, job: &Job) -> Result<Vec<u8>, Problem> {
    let failed = |reason: &str| Problem::Told(format!("{name} failed: {reason}"));
    let image = session.image_mut()?;
    if !job.vm_state && !image.holds(job.offset, job.len) {
        return Err(failed("Input/output error"));
    }
    let mut bytes = Vec::new();
    let len = usize::try_from(job.len).map_err(|_| failed("Cannot allocate memory"))?;
    bytes.try_reserve_exact(len).map_err(|_| failed("Cannot allocate memory"))?;
    bytes.resize(len, 0);
    let read = match job.vm_state {
        true => image.read_vm_state(job.offset, &mut bytes),
        false => {
            let read = image.chain().read_at(job.offset, &mut bytes);
            read.map_err(|error| crate::open::cause(&error))
        }
    };
    read.map_err(|reason| failed(&reason))?;
    Ok(bytes)
}

fn check(
    session: &mut Session<'_>,
    offset: u64,
    bytes: &[u8],
    verify: &Verify,
) -> Result<bool, Problem> {
    let Verify { byte, start, len } = *verify;
    let in_range = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let examined = &bytes[in_range(start)..in_range(start.saturating_add(len))];
    if examined.iter().all(|&found| found == byte) {
        return Ok(true);
    }
    let at = offset.saturating_add(start);
    session.print(&format!("Pattern verification failed at offset {at}, {len} bytes\n"))?;
    Ok(false)
}
