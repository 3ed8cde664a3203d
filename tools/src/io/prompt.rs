//! Commands from standard input, behind a prompt.

use std::io::BufRead;

use super::session::Session;
use crate::called::called_as;
use crate::failure::Failure;

/// Runs commands line by line until the input ends or `quit`; tells whether all succeeded.
///
/// # Errors
/// The input cannot be read or the output cannot be written.
pub fn serve(session: &mut Session<'_>, mut input: impl BufRead) -> Result<bool, Failure> {
    let mut all_well = true;
    let mut line = Vec::new();
    loop {
        session.print(&format!("{}> ", called_as("qimg-io")))?;
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        match read.map_err(|error| Failure::new(format!("cannot read commands: {error}")))? {
            0 => return Ok(all_well),
            _ => all_well &= session.run(String::from_utf8_lossy(&line).trim_end_matches('\n'))?,
        }
        if session.is_over() {
            return Ok(all_well);
        }
    }
}
