//! `qimg-io`: qemu-io's command language over our chains.

pub mod args;
pub mod command;
pub mod dump;
pub mod getopt;
pub mod number;
pub mod pattern;
pub mod prompt;
pub mod session;
pub mod statistics;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use crate::args::usage::{self, Refusal};
use crate::exit;
use crate::failure::{Failure, Outcome};
use session::{Session, Settings};

/// Runs the program with these arguments (the first is its name) and returns its exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    let outcome = match args::Args::try_parse_from(arguments) {
        Ok(args) => serve(&args),
        Err(error) => match usage::refusal("qimg-io", "", &error) {
            Refusal::Text(text) => std::io::stdout()
                .write_all(text.as_bytes())
                .map_or_else(|error| Err(Failure::from(error)), |()| Ok(exit::SUCCESS)),
            Refusal::Wrong(failure) => Err(failure),
        },
    };
    crate::program::finish("qimg-io", outcome)
}

fn serve(args: &args::Args) -> Outcome {
    let settings = Settings::from_args(args)?;
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr();
    let mut session = Session::new(&mut out, &mut err);
    if let Some(file) = args.file()? {
        let argument = session::argument(file, args.format.as_deref(), args.image_opts);
        // Options name no device.
        let name = if args.image_opts { "".into() } else { file.to_string_lossy() };
        session.open(&name, argument, settings)?;
    }
    let all_well = if args.commands.is_empty() {
        prompt::serve(&mut session, std::io::stdin().lock())?
    } else {
        session.run_all(&args.commands)?
    };
    session.close()?;
    Ok(if all_well { exit::SUCCESS } else { exit::FAILURE })
}
