//! `sigraise` and `abort`: the program ends as if it had crashed.

use super::{Command, Invocation, Problem};
use crate::io::number;
use crate::io::session::Session;

/// `sigraise`
pub const SIGRAISE: Command = Command {
    name: "sigraise",
    short: "sigraise",
    fewest: 1,
    most: Some(1),
    arguments: "signal",
    summary: "raises a signal",
    details: SIGRAISE_DETAILS,
    needs_image: false,
    run: raise,
};

/// `abort`
pub const ABORT: Command = Command {
    name: "abort",
    short: "abort",
    fewest: 0,
    most: Some(0),
    arguments: "",
    summary: "simulate a program crash using abort(3)",
    details: "",
    needs_image: false,
    run: |_, _| std::process::abort(),
};

const SIGRAISE_DETAILS: &str = " \
 Sends a signal, by its number, to this program. What was not flushed is lost: 'sigraise 9' stands
 for a crash.
";

/// The largest signal of Linux.
const SIGNAL_MAX: u64 = 64;

fn raise(_: &mut Session<'_>, invocation: &Invocation<'_>) -> Result<(), Problem> {
    let text = &invocation.arguments[0];
    match number::parse(text).map_err(Problem::Told)? {
        0 => Ok(()), // asks whether a signal could be sent
        signal if signal <= SIGNAL_MAX => signal_hook::low_level::raise(signal as i32)
            .map_err(|error| Problem::Told(format!("sigraise failed: {error}"))),
        _ => Err(Problem::Told(format!(
            "signal argument '{text}' is too large to be a valid signal"
        ))),
    }
}
