//! Commands of qemu-io that are known and not offered yet.

use super::{Command, Invocation, Problem};
use crate::io::session::Session;

/// `truncate`
pub const TRUNCATE: Command = Command {
    name: "truncate",
    short: "t",
    fewest: 1,
    most: Some(3),
    arguments: "[-m prealloc_mode] off",
    summary: "truncates the current file at the given offset",
    details: "",
    needs_image: true,
    run: refuse,
};

fn refuse(_: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let name = invocation.command.name;
    Err(Problem::Complained(format!("{name} is not offered yet; use qemu-io -c '{name} ...'")))
}
