//! `write`, `writev` and `aio_write`.

use std::time::Instant;

use super::{Command, Invocation, Problem};
use crate::io::getopt::Parsed;
use crate::io::session::{OpenImage, Session};
use crate::io::statistics::Request;
use crate::io::{number, pattern};

/// `write`
pub const WRITE: Command = Command {
    name: "write",
    short: "w",
    fewest: 2,
    most: None,
    arguments: "[-bcCfnqruz] [-P pattern | -s source_file] off len",
    summary: "writes a number of bytes at a specified offset",
    details: DETAILS,
    needs_image: true,
    run: write,
};

/// `writev`
pub const WRITEV: Command = Command {
    name: "writev",
    short: "writev",
    fewest: 2,
    most: None,
    arguments: "[-Cfqr] [-P pattern] off len [len..]",
    summary: "writes a number of bytes at a specified offset",
    details: VECTORED_DETAILS,
    needs_image: true,
    run: write_vectored,
};

/// `aio_write`
pub const AIO_WRITE: Command = Command {
    name: "aio_write",
    short: "aio_write",
    fewest: 2,
    most: None,
    arguments: "[-Cfiqruz] [-P pattern] off len [len..]",
    summary: "asynchronously writes a number of bytes",
    details: VECTORED_DETAILS,
    needs_image: true,
    run: write_asynchronously,
};

const DETAILS: &str = " \
 Without -P, -s and -z every byte written is 0xcd.
 -c  compress; whole clusters that hold nothing yet
 -C  statistics as one line of comma-separated values
 -f  flush after the write
 -P  write this byte
 -q  no statistics
 -s  write the content of this file, again and again
 -u  with -z: give the space back
 -z  write zeros
 -n  with -z: fail rather than write zeros byte by byte
 -b  write to the state of a virtual machine, behind the disk
 -p and -r are accepted and have no effect
";

const VECTORED_DETAILS: &str = " \
 Several lengths are written one after the other as one request.
 -C  statistics as one line of comma-separated values
 -f  flush after the write
 -P  write this byte
 -q  no statistics
 -r is accepted and has no effect
";

/// The byte written when nothing else is said.
const DEFAULT_BYTE: u8 = 0xcd;

/// What is written.
enum Source {
    Fill(u8),
    Repeat(Vec<u8>),
    Zeroes { unmap: bool, no_fallback: bool },
}

/// A write, ready to be made.
struct Job {
    offset: u64,
    len: u64,
    source: Source,
    compress: bool,
    flush: bool,
    quiet: bool,
    terse: bool,
    /// Behind the disk, where the state of a virtual machine is kept.
    vm_state: bool,
}

fn write(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let parsed = invocation.parse("bcCfnpP:qrs:uz")?;
    let [offset, len] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    check_flags(&parsed)?;
    let offset = number::parse(offset).map_err(Problem::Told)?;
    let len = number::parse_length(len, " without -n").map_err(Problem::Told)?;
    if parsed.has('b') {
        super::read::check_sectors(offset, len)?;
    }
    let source = source(&parsed)?;
    session.require_writable()?;
    execute(session, "write", &job(&parsed, offset, len, source))
}

fn check_flags(parsed: &Parsed) -> Result<(), Problem> {
    let told = |message: &str| Err(Problem::Told(message.into()));
    match () {
        () if parsed.has('b') && parsed.has('z') => {
            told("-b and -z cannot be specified at the same time")
        }
        () if parsed.has('n') && !parsed.has('z') => told("-n requires -z to be specified"),
        () if parsed.has('u') && !parsed.has('z') => told("-u requires -z to be specified"),
        () if ['z', 'P', 's'].iter().filter(|&&flag| parsed.has(flag)).count() > 1 => {
            told("Only one of -z, -P, and -s can be specified at the same time")
        }
        () if parsed.has('f') && (parsed.has('b') || parsed.has('c')) => {
            told("-f and -b or -c cannot be specified at the same time")
        }
        () => Ok(()),
    }
}

fn source(parsed: &Parsed) -> Result<Source, Problem> {
    if parsed.has('z') {
        return Ok(Source::Zeroes { unmap: parsed.has('u'), no_fallback: parsed.has('n') });
    }
    if let Some(file) = parsed.value('s') {
        return pattern_file(file).map(Source::Repeat).map_err(Problem::Complained);
    }
    let byte = parsed.value('P').map(pattern::parse).transpose().map_err(Problem::Told)?;
    Ok(Source::Fill(byte.unwrap_or(DEFAULT_BYTE)))
}

fn pattern_file(name: &str) -> Result<Vec<u8>, String> {
    let limit = number::REQUEST_MAX;
    let too_large = || format!("{name}: larger than {limit} bytes, the most one request has");
    let reason = |error| format!("{name}: {}", crate::open::os_text(&error));
    if std::fs::metadata(name).map_err(reason)?.len() > limit {
        return Err(too_large());
    }
    match std::fs::read(name).map_err(reason)? {
        bytes if bytes.is_empty() => Err(format!("{name}: file is empty")),
        bytes => Ok(bytes),
    }
}

fn job(parsed: &Parsed, offset: u64, len: u64, source: Source) -> Job {
    Job {
        offset,
        len,
        source,
        compress: parsed.has('c'),
        flush: parsed.has('f'),
        quiet: parsed.has('q'),
        terse: parsed.has('C'),
        vm_state: parsed.has('b'),
    }
}

fn write_vectored(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let job = vectored_job(&invocation.parse("CfP:qr")?)?;
    session.require_writable()?;
    execute(session, "writev", &job)
}

fn vectored_job(parsed: &Parsed) -> Result<Job, Problem> {
    let [offset, lengths @ ..] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    if lengths.is_empty() {
        return Err(Problem::Usage);
    }
    if parsed.has('u') && !parsed.has('z') {
        return Err(Problem::Told("-u requires -z to be specified".into()));
    }
    if parsed.has('z') && lengths.len() != 1 {
        return Err(Problem::Told("-z supports only a single length parameter".into()));
    }
    let offset = number::parse(offset).map_err(Problem::Told)?;
    let len = number::parse_lengths(lengths).map_err(Problem::Told)?;
    Ok(job(parsed, offset, len, source(parsed)?))
}

/// As in qemu-io, a request that was sent counts as success whatever becomes of it.
fn write_asynchronously(
    session: &mut Session<'_>,
    invocation: &Invocation<'_>,
) -> Result<(), Problem> {
    let job = vectored_job(&invocation.parse("CfiP:qruz")?)?;
    session.require_writable()?;
    match execute(session, "aio_write", &job) {
        Err(Problem::Told(message)) => Ok(session.print(&format!("{message}\n"))?),
        other => other,
    }
}

fn execute(session: &mut Session<'_>, name: &str, job: &Job) -> Result<(), Problem> {
    let started = Instant::now();
    let done = perform(session, job);
    done.map_err(|reason| Problem::Told(format!("{name} failed: {reason}")))?;
    if !job.quiet {
        let request = Request {
            verb: "wrote",
            offset: job.offset,
            bytes: job.len,
            operations: 1,
            elapsed: started.elapsed(),
            terse: job.terse,
        };
        session.print(&request.render())?;
    }
    Ok(())
}

fn perform(session: &mut Session<'_>, job: &Job) -> Result<(), String> {
    let image = session.image_mut().map_err(|_| "No medium found")?;
    if job.vm_state {
        let bytes = match &job.source {
            Source::Fill(byte) => repeated(&[*byte], job.len)?,
            Source::Repeat(bytes) => repeated(bytes, job.len)?,
            Source::Zeroes { .. } => repeated(&[0], job.len)?,
        };
        return image.write_vm_state(job.offset, &bytes);
    }
    if !image.holds(job.offset, job.len) {
        return Err("Input/output error".into());
    }
    let cause = |error| crate::open::cause(&error);
    match &job.source {
        Source::Zeroes { no_fallback: true, .. } if !image.zeroes_quickly(job.offset, job.len) => {
            return Err("Operation not supported".into());
        }
        Source::Zeroes { unmap, .. } => {
            let unmap = *unmap && image.unmaps();
            image.chain().write_zeroes_at(job.offset, job.len, unmap).map_err(cause)?;
        }
        Source::Fill(byte) => write_bytes(image, job, &repeated(&[*byte], job.len)?)?,
        Source::Repeat(bytes) => write_bytes(image, job, &repeated(bytes, job.len)?)?,
    }
    if job.flush || image.settings.cache.flush_each_write() {
        image.flush()?;
    }
    Ok(())
}

fn write_bytes(image: &OpenImage, job: &Job, bytes: &[u8]) -> Result<(), String> {
    if job.compress {
        image.write_compressed(job.offset, bytes)
    } else {
        image.write(job.offset, bytes)
    }
}

fn repeated(pattern: &[u8], len: u64) -> Result<Vec<u8>, String> {
    let too_large = "Cannot allocate memory";
    let len = usize::try_from(len).map_err(|_| too_large)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| too_large)?;
    while bytes.len() < len {
        let part = pattern.len().min(len - bytes.len());
        bytes.extend_from_slice(&pattern[..part]);
    }
    Ok(bytes)
}
