//! `alloc` and `map`: what the top layer holds itself.

use super::{Command, Invocation, Problem};
use crate::io::session::Session;
use crate::io::{number, statistics};

/// `alloc`
pub const ALLOC: Command = Command {
    name: "alloc",
    short: "a",
    fewest: 1,
    most: Some(2),
    arguments: "offset [count]",
    summary: "checks if offset is allocated in the file",
    details: "",
    needs_image: true,
    run: alloc,
};

/// `map`
pub const MAP: Command = Command {
    name: "map",
    short: "map",
    fewest: 0,
    most: Some(0),
    arguments: " ", // qemu-io has a blank there
    summary: "prints the allocated areas of a file",
    details: "",
    needs_image: true,
    run: map,
};

/// A run of bytes that the top layer holds, or does not.
struct Run {
    len: u64,
    allocated: bool,
}

fn run_at(session: &Session<'_>, offset: u64, len: u64) -> Result<Run, Problem> {
    let status = session.image()?.chain().top_status_at(offset, len).map_err(|error| {
        Problem::Told(format!("is_allocated failed: {}", crate::open::cause(&error)))
    })?;
    Ok(Run { len: status.len.min(len), allocated: status.present })
}

fn alloc(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let start = number::parse(&invocation.arguments[0]).map_err(Problem::Told)?;
    let count = match invocation.arguments.get(1) {
        Some(text) => number::parse(text).map_err(Problem::Told)?,
        None => 512,
    };
    let count = count.min(session.image()?.chain().virtual_size().saturating_sub(start));
    let mut at = 0;
    let mut allocated = 0;
    while at < count {
        let run = run_at(session, start + at, count - at)?;
        if run.len == 0 {
            break;
        }
        allocated += if run.allocated { run.len } else { 0 };
        at += run.len;
    }
    let start = statistics::size(start);
    Ok(session.print(&format!("{allocated}/{count} bytes allocated at offset {start}\n"))?)
}

fn map(session: &mut Session<'_>, _: &Invocation<'_>) -> Result<(), Problem> {
    let size = session.image()?.chain().virtual_size();
    let mut start = 0;
    while start < size {
        let mut run = run_at(session, start, size - start)?;
        while run.len > 0 && start + run.len < size {
            let next = run_at(session, start + run.len, size - start - run.len)?;
            if next.len == 0 || next.allocated != run.allocated {
                break;
            }
            run.len += next.len;
        }
        if run.len == 0 {
            return Err(Problem::Told("failed to get allocation status: no progress".into()));
        }
        session.print(&line(start, &run))?;
        start += run.len;
    }
    Ok(())
}

fn line(start: u64, run: &Run) -> String {
    let word = if run.allocated { "    allocated" } else { "not allocated" };
    let (len, at) = (statistics::size(run.len), statistics::size(start));
    format!("{len} (0x{:x}) bytes {word} at offset {at} (0x{start:x})\n", run.len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_align_the_two_answers() {
        let held = line(65536, &Run { len: 65536, allocated: true });
        assert_eq!(held, "64 KiB (0x10000) bytes     allocated at offset 64 KiB (0x10000)\n");
        let missing = line(0, &Run { len: 65536, allocated: false });
        assert_eq!(missing, "64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)\n");
    }
}
