//! `truncate`.

use qimg::engine::{Preallocation, ResizeOptions};

use super::{Command, Invocation, Problem};
use crate::called::called_as;
use crate::io::number;
use crate::io::session::Session;
use crate::verb::resize;

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
    run: truncate,
};

fn truncate(session: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let complain =
        |reason: String| Problem::Complained(format!("{}: {reason}", called_as("qimg-io")));
    let parsed = invocation.parse("m:")?;
    let mode = match parsed.value('m') {
        None => Preallocation::Off,
        Some(name) => {
            name.parse().map_err(|_| complain(format!("Invalid preallocation mode '{name}'")))?
        }
    };
    let [size] = parsed.operands.as_slice() else { return Err(Problem::Usage) };
    let size = number::parse(size).map_err(Problem::Told)?;
    session.require_writable()?;
    let image = session.image_mut()?;
    if mode != Preallocation::Off && size < image.chain().virtual_size() {
        return Err(complain("Preallocation can't be used for shrinking an image".into()));
    }
    let options = ResizeOptions::new().shrink(true).preallocation(mode);
    image.resize(size, options).map_err(|error| complain(resize::words(&error)))
}
