//! Commands for drivers and devices that are not opened here: they fail as they do in qemu-io on an
//! ordinary image.

use super::{Command, Invocation, Problem};
use crate::io::session::Session;

const fn command(
    name: &'static str,
    counts: (usize, usize),
    arguments: &'static str,
    summary: &'static str,
) -> Command {
    let (fewest, most) = (counts.0, Some(counts.1));
    let needs_image = true;
    Command { name, short: name, fewest, most, arguments, summary, details: "", needs_image, run }
}

/// `break`
pub const BREAK: Command = command(
    "break",
    (2, 2),
    "event tag",
    "sets a breakpoint on event and tags the stopped request as tag",
);
/// `remove_break`
pub const REMOVE_BREAK: Command =
    command("remove_break", (1, 1), "tag", "remove a breakpoint by tag");
/// `resume`
pub const RESUME: Command = command("resume", (1, 1), "tag", "resumes the request tagged as tag");
/// `wait_break`
pub const WAIT_BREAK: Command =
    command("wait_break", (1, 1), "tag", "waits for the suspension of a request");
/// `zone_append`
pub const ZONE_APPEND: Command = command(
    "zone_append",
    (3, 4),
    "offset len [len..]",
    "append write a number of bytes at a specified offset",
);
/// `zone_close`
pub const ZONE_CLOSE: Command =
    command("zone_close", (2, 2), "offset len", "close a range of zones in zone block device");
/// `zone_finish`
pub const ZONE_FINISH: Command =
    command("zone_finish", (2, 2), "offset len", "finish a range of zones in zone block device");
/// `zone_open`
pub const ZONE_OPEN: Command = command(
    "zone_open",
    (2, 2),
    "offset len",
    "explicit open a range of zones in zone block device",
);
/// `zone_report`
pub const ZONE_REPORT: Command =
    command("zone_report", (2, 2), "offset number", "report zone information");
/// `zone_reset`
pub const ZONE_RESET: Command =
    command("zone_reset", (2, 2), "offset len", "reset a zone write pointer in zone block device");

fn run(_: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let first = invocation.arguments.first().map(String::as_str).unwrap_or_default();
    let what = match invocation.command.name {
        "break" => "Could not set breakpoint".to_owned(),
        "remove_break" => format!("Could not remove breakpoint {first}"),
        "resume" => "Could not resume request".to_owned(),
        "wait_break" => "Could not wait for a request".to_owned(),
        zone => format!("{} failed", zone.replace('_', " ")),
    };
    Err(Problem::Told(format!("{what}: Operation not supported")))
}
