//! `discard`.

use std::time::Instant;

use super::{Command, Invocation, Problem};
use crate::io::number;
use crate::io::session::{OpenImage, Session};
use crate::io::statistics::Request;

/// `discard`
pub const DISCARD: Command = Command {
    name: "discard",
    short: "d",
    fewest: 2,
    most: None,
    arguments: "[-Cq] off len",
    summary: "discards a number of bytes at a specified offset",
    details: DETAILS,
    needs_image: true,
    run: discard,
};

const DETAILS: &str = " \
 Only whole clusters are given up; they then read as zeros.
 -C  statistics as one line of comma-separated values
 -q  no statistics
";

fn discard(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let parsed = invocation.parse("Cq")?;
    let [offset, len] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    let offset = number::parse(offset).map_err(Problem::Told)?;
    let len = number::parse_length(len, "").map_err(Problem::Told)?;
    session.require_writable()?;
    let started = Instant::now();
    perform(session.image()?, offset, len)
        .map_err(|reason| Problem::Told(format!("discard failed: {reason}")))?;
    if !parsed.has('q') {
        let request = Request {
            verb: "discard",
            offset,
            bytes: len,
            operations: 1,
            elapsed: started.elapsed(),
            terse: parsed.has('C'),
        };
        session.print(&request.render())?;
    }
    Ok(())
}

fn perform(image: &OpenImage, offset: u64, len: u64) -> Result<(), String> {
    if !image.holds(offset, len) {
        return Err("Input/output error".into());
    }
    image.discard(offset, len)?;
    // Only a flush gives the space back; the next command can then use it, as in the real tool.
    image.flush()
}
